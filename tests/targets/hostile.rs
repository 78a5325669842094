pub fn hostile(_: &[u8]) {}
