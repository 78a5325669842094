//! The example `simulated_program`.

mod programs;

use std::process::Command;

#[test]
fn a_simulated_program_works_and_goes_the_same_way_twice() {
    let program = programs::example("simulated_program");
    let [first, second] = [(); 2].map(|()| {
        let output = Command::new(&program).env("KHASHMIR_SEED", "2").output().expect("the program runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).expect("text")
    });
    assert!(first.contains("digest: "), "{first}");
    assert_eq!(first, second);
}
