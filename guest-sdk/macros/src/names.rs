//! Names: from Rust to WIT, and from WIT to what wit-bindgen calls it in Rust.

use heck::{ToKebabCase, ToSnakeCase, ToUpperCamelCase};
use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;

/// The name in WIT: `max_width` and `MaxWidth` are `max-width`, `HTTPServer` is `http-server`.
///
/// Every word of a WIT name begins with a letter, so a word of digits joins the one before: `top_10` is `top10`.
pub fn kebab(ident: &Ident) -> syn::Result<String> {
    let rust = ident.unraw().to_string();
    if !rust.is_ascii() {
        let message = format!("`{rust}` must be written in ASCII: WIT has no other names");
        return Err(syn::Error::new(ident.span(), message));
    }
    if rust == "gen" {
        // wit-bindgen would write it as it is, and the 2024 edition takes it for a keyword.
        return Err(syn::Error::new(ident.span(), "`gen` is a keyword of Rust: take another name"));
    }
    let mut name = String::new();
    for word in rust.to_kebab_case().split('-').filter(|word| !word.is_empty()) {
        if !name.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit()) {
            name.push('-');
        }
        name.push_str(word);
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        let message = format!("`{rust}` needs a letter at its beginning to have a name in WIT");
        return Err(syn::Error::new(ident.span(), message));
    }
    Ok(name)
}

/// A name as it stands in WIT text: `%` keeps it from being taken for a keyword.
pub fn escaped(name: &str) -> String {
    format!("%{name}")
}

/// What wit-bindgen calls the field, function or module with this WIT name.
pub fn bindings_value(name: &str) -> Ident {
    let snake = name.to_snake_case();
    // wit-bindgen appends an underscore to these words and to no other. A raw name in Rust, such as `r#type`, arrives
    // here without its prefix.
    const KEYWORDS: &[&str] = &[
        "as", "break", "const", "continue", "crate", "else", "enum", "extern", "false", "fn",
        "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
        "return", "self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use",
        "where", "while", "async", "await", "dyn", "abstract", "become", "box", "do", "final",
        "macro", "override", "priv", "typeof", "unsized", "virtual", "yield", "try",
    ];
    let escaped = if KEYWORDS.contains(&name) { format!("{snake}_") } else { snake };
    Ident::new(&escaped, Span::call_site())
}

/// What wit-bindgen calls the type with this WIT name.
pub fn bindings_type(name: &str) -> Ident {
    Ident::new(&name.to_upper_camel_case(), Span::call_site())
}

/// Type names that the code of wit-bindgen gives a meaning of its own.
pub fn is_reserved_type(name: &str) -> bool {
    matches!(name, "guest" | "option" | "result" | "some" | "none" | "ok" | "err" | "self")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_become_kebab_case() {
        for (rust, wit) in [
            ("resize", "resize"),
            ("max_width", "max-width"),
            ("MaxWidth", "max-width"),
            ("HTTPServer", "http-server"),
            ("_unused", "unused"),
            ("top_10", "top10"),
            ("Vec2", "vec2"),
            ("utf8_text", "utf8-text"),
            ("r#type", "type"),
        ] {
            let ident: Ident = syn::parse_str(rust).unwrap();
            assert_eq!(kebab(&ident).unwrap(), wit, "{rust}");
        }
    }

    #[test]
    fn names_without_a_name_in_wit_are_refused() {
        for rust in ["größe", "__", "_1", "r#gen"] {
            let ident: Ident = syn::parse_str(rust).unwrap();
            assert!(kebab(&ident).is_err(), "{rust}");
        }
    }

    #[test]
    fn keywords_are_escaped_as_wit_bindgen_does() {
        assert_eq!(bindings_value("type"), "type_");
        assert_eq!(bindings_value("max-width"), "max_width");
        assert_eq!(bindings_type("http-server"), "HttpServer");
    }
}
