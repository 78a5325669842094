//! What the fuzzer found to be of use, replayed.

mod support;
mod targets;

use std::fs;
use std::path::Path;

/// The corpus of a target, in a fixed order.
fn replay(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(other, _)| *other == name).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    for file in files {
        let _at = At(&file);
        target(&fs::read(&file).expect("a file that can be read"));
    }
}

/// Says which file failed.
struct At<'a>(&'a Path);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}", self.0.display());
        }
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
    };
}

replayed!(packet stream bencode krpc pair hostile);

#[test]
fn every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut names = targets::ALL.map(|(name, _)| name);
    names.sort();
    assert_eq!(folders, names);
}
