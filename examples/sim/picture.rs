use khashmir::sim::Report;
pub fn draw_all(_: &std::path::Path, _: &[Report], _: usize) -> std::io::Result<()> {
    Ok(())
}
