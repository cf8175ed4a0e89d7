//! What an author sees who uses something that WIT does not have: each error stands at its place and says what to
//! write instead. `TRYBUILD=overwrite cargo test` takes over new texts; look at the difference.

#[test]
fn errors_are_helpful() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
