//! Components written as text.

use std::borrow::Cow;

use super::super::text::{MAX_TEXT_BYTES, to_binary};
use super::*;

#[test]
fn text_becomes_binary_and_binary_stays() {
    let expected = wat::parse_str("(component)").unwrap();
    for text in ["(component)", "\n ;; a comment\n (; another ;) (component)"] {
        assert_eq!(to_binary(text.as_bytes(), None).unwrap(), expected);
    }
    let kept = to_binary(&expected, Some("odd.wat")).unwrap();
    assert!(matches!(kept, Cow::Borrowed(bytes) if bytes == expected));
}

#[test]
fn what_is_no_text_form_is_left_for_inspection() {
    for (bytes, name) in [
        (&b""[..], Some("empty.wat")),
        (b"package a:b;", None),
        (b"package a:b;", Some("types.wit")),
        (b"\xff\xff", None),
    ] {
        let kept = to_binary(bytes, name).unwrap();
        assert!(matches!(kept, Cow::Borrowed(kept) if kept == bytes));
    }
}

#[test]
fn a_mistake_is_told_with_line_and_column() {
    for (text, name, expected) in [
        (
            "(component\n  (exprot \"a\"))",
            None,
            "the text is not WebAssembly, at line 2, column 4: expected valid component field",
        ),
        ("(component\n", None, "the text is not WebAssembly, at line 2, column 1: expected `)`"),
        ("component", Some("a.wat"), "the text is not WebAssembly, at line 1, column 1: "),
        (
            "(component (export \"f\" (func $nothing)))",
            None,
            "the text is not WebAssembly, at line 1, column 30: unknown func: failed to find",
        ),
        ("(component \"", Some("a.WAT"), "the text is not WebAssembly, at line 1, column 1"),
    ] {
        let message = to_binary(text.as_bytes(), name).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let long = format!("(component {} (exprot))", " ".repeat(50_000));
    let message = to_binary(long.as_bytes(), None).unwrap_err().to_string();
    assert!(
        message.starts_with("the text is not WebAssembly, at line 1, column 50014: "),
        "{message}"
    );
    let error = to_binary(b"(component\n ;; \xff)", Some("a.wat")).unwrap_err();
    assert_eq!(error, Error::Text { line: 2, column: 5, message: "not valid UTF-8".to_owned() });
}

#[test]
fn text_is_bounded() {
    let mut text = b"(component)".to_vec();
    text.resize(MAX_TEXT_BYTES + 1, b' ');
    assert!(matches!(to_binary(&text, None), Err(Error::TooLarge { .. })));
    text.truncate(MAX_TEXT_BYTES);
    assert!(to_binary(&text, None).is_ok());
    // Parentheses that never close nest deeper than any stack would bear.
    let deep = "(component ".repeat(100_000);
    assert!(matches!(to_binary(deep.as_bytes(), None), Err(Error::Text { .. })));
}
