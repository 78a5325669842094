pub fn write(_: &std::path::Path, _: u64) -> Result<(), String> {
    Ok(())
}
