//! The arguments of `#[omniq::tasks(…)]`, and the names that follow from the author's crate.

use heck::ToKebabCase;
use proc_macro2::{Ident, Span, TokenStream};
use syn::parse::Parser;

/// What the author may set.
#[derive(Debug)]
pub struct Options {
    /// The WIT package, such as `acme:images` and `1.2.0`.
    pub package: Package,
}

/// The name of a WIT package.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub namespace: String,
    pub name: String,
    pub version: Option<String>,
}

/// Reads the arguments; what is not there follows from the crate.
pub fn read(tokens: TokenStream) -> syn::Result<Options> {
    let mut package = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("package") {
            return Err(
                meta.error("unknown option; there is `package = \"namespace:name@version\"`")
            );
        }
        let literal: syn::LitStr = meta.value()?.parse()?;
        package = Some(
            parse_package(&literal.value()).map_err(|why| syn::Error::new(literal.span(), why))?,
        );
        Ok(())
    });
    parser.parse2(tokens)?;
    Ok(Options { package: package.unwrap_or_else(package_of_crate) })
}

/// `component:CRATE`, as cargo-component names the packages that it makes.
fn package_of_crate() -> Package {
    let crate_name = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let mut name = String::new();
    for word in crate_name.to_kebab_case().split('-') {
        if !name.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.push('-');
        }
        name.extend(word.chars().filter(char::is_ascii_alphanumeric));
    }
    if !is_name(&name) {
        name = "tasks".to_owned();
    }
    Package { namespace: "component".to_owned(), name, version: None }
}

fn parse_package(text: &str) -> Result<Package, String> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let (namespace, name) = id.split_once(':').unwrap_or_default();
    let version_is_odd = version.is_some_and(|version| !is_version(version));
    if !is_name(namespace) || !is_name(name) || version_is_odd {
        return Err(format!(
            "`{text}` is no WIT package; write it like `acme:images` or `acme:images@1.2.0`"
        ));
    }
    if matches!(namespace, "omniq" | "wasi") {
        return Err(format!(
            "the namespace `{namespace}` is not yours; take one of your own, as in `acme:{name}`"
        ));
    }
    Ok(Package {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        version: version.map(str::to_owned),
    })
}

/// Kebab-case, each word beginning with a letter.
fn is_name(text: &str) -> bool {
    text.split('-').all(|word| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    })
}

/// `MAJOR.MINOR.PATCH`; what may follow it is left out, for no two such versions ever match.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| part.parse::<u64>().is_ok_and(|number| number.to_string() == part);
    text.split('.').count() == 3 && text.split('.').all(is_number)
}

/// What the author calls `omniq-guest`: `::omniq` or `::omniq_guest`.
pub fn sdk_path() -> syn::Result<TokenStream> {
    let name = match proc_macro_crate::crate_name("omniq-guest") {
        Ok(proc_macro_crate::FoundCrate::Itself) => "omniq_guest".to_owned(),
        Ok(proc_macro_crate::FoundCrate::Name(name)) => name,
        Err(error) => {
            let message = format!("cannot tell what `omniq-guest` is called here: {error}");
            return Err(syn::Error::new(Span::call_site(), message));
        }
    };
    let ident = Ident::new(&name, Span::call_site());
    Ok(quote::quote!(::#ident))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read() {
        let options = read(quote::quote!(package = "acme:big-images@1.2.0")).unwrap();
        let expected = Package {
            namespace: "acme".to_owned(),
            name: "big-images".to_owned(),
            version: Some("1.2.0".to_owned()),
        };
        assert_eq!(options.package, expected);
        // The crate that runs this test.
        assert_eq!(read(TokenStream::new()).unwrap().package.name, "omniq-guest-macros");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        for text in [
            "acme",
            "acme:",
            "Acme:images",
            "acme:images@1",
            "acme:images@1.0.0-rc",
            "omniq:task",
            "a:2d",
        ] {
            assert!(parse_package(text).is_err(), "{text}");
        }
        assert!(read(quote::quote!(name = "x")).is_err());
    }
}
