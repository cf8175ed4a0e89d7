//! Turns Markdown into HTML: a component with its own WIT, built by plain `cargo build`.
//!
//! The types and the trait come from `wit/world.wit`.

mod bindings {
    //! What `wit/world.wit` says, as Rust.
    wit_bindgen::generate!({ world: "markdown", path: "wit" });
    use super::Markdown;
    export!(Markdown);
}

use std::collections::HashMap;

use bindings::exports::example::markdown::renderer::{Extensions, Guest, Heading, Page};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

struct Markdown;

impl Guest for Markdown {
    fn to_html(markdown: String) -> String {
        to_html(events(&markdown, Options::empty()).into_iter())
    }

    fn render(markdown: String, extensions: Extensions) -> Page {
        let mut events = events(&markdown, options(extensions));
        let outline = anchor_headings(&mut events);
        Page {
            title: outline.iter().find(|heading| heading.level == 1).map(|h| h.text.clone()),
            html: to_html(events.into_iter()),
            outline,
        }
    }
}

/// Reads a document. Raw HTML becomes text, so that what is rendered can be shown to anybody.
fn events(markdown: &str, options: Options) -> Vec<Event<'_>> {
    Parser::new_ext(markdown, options)
        .map(|event| match event {
            Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Link { link_type, dest_url: harmless(dest_url), title, id })
            }
            Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Image { link_type, dest_url: harmless(dest_url), title, id })
            }
            other => other,
        })
        .collect()
}

/// An address that leads somewhere: one that would run as a script leads nowhere.
fn harmless(url: CowStr<'_>) -> CowStr<'_> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
    match scheme.as_deref() {
        // A colon behind one of these belongs to a path, a query or a fragment.
        Some(scheme) if scheme.contains(['/', '?', '#']) => url,
        Some("http" | "https" | "mailto") | None => url,
        Some(_) => CowStr::Borrowed("#"),
    }
}

fn options(extensions: Extensions) -> Options {
    [
        (Extensions::TABLES, Options::ENABLE_TABLES),
        (Extensions::FOOTNOTES, Options::ENABLE_FOOTNOTES),
        (Extensions::STRIKETHROUGH, Options::ENABLE_STRIKETHROUGH),
        (Extensions::TASK_LISTS, Options::ENABLE_TASKLISTS),
    ]
    .into_iter()
    .filter(|(wanted, _)| extensions.contains(*wanted))
    .map(|(_, option)| option)
    .collect()
}

/// Gives every heading an `id` made of its text, and lists them.
fn anchor_headings(events: &mut [Event<'_>]) -> Vec<Heading> {
    let mut outline = Vec::new();
    let mut used: HashMap<String, u32> = HashMap::new();
    for start in 0..events.len() {
        let Event::Start(Tag::Heading { level, .. }) = &events[start] else { continue };
        let level = *level;
        let text = heading_text(&events[start..]);
        let slug = slug(&text);
        let times = used.entry(slug.clone()).or_default();
        let anchor = if *times == 0 { slug } else { format!("{slug}-{times}") };
        *times += 1;
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
            *id = Some(anchor.clone().into());
        }
        outline.push(Heading { level: number(level), text, anchor });
    }
    outline
}

/// The text of the heading that `events` begins with.
fn heading_text(events: &[Event<'_>]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            Event::End(TagEnd::Heading(_)) => break,
            _ => {}
        }
    }
    text
}

/// `Getting started!` becomes `getting-started`.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn number(level: HeadingLevel) -> u8 {
    level as u8
}

fn to_html<'a>(events: impl Iterator<Item = Event<'a>>) -> String {
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_html() {
        let html = Markdown::to_html("A *small* `example`".to_owned());
        assert_eq!(html, "<p>A <em>small</em> <code>example</code></p>\n");
    }

    #[test]
    fn scripts_do_not_get_through() {
        let html = Markdown::to_html("<b>x</b>\n\n[a](JavaScript:x) [b](/c:d)".to_owned());
        assert!(!html.contains("<b>") && !html.to_lowercase().contains("javascript"), "{html}");
        assert!(html.contains("href=\"/c:d\""), "{html}");
    }

    #[test]
    fn headings_get_unique_anchors() {
        let page =
            Markdown::render("# Hi `you`!\n## Part\n## Part".to_owned(), Extensions::empty());
        let anchors: Vec<_> = page.outline.iter().map(|heading| heading.anchor.as_str()).collect();
        assert_eq!(anchors, ["hi-you", "part", "part-1"]);
        assert_eq!(page.title.as_deref(), Some("Hi you!"));
        assert!(page.html.contains("<h2 id=\"part-1\">"), "{}", page.html);
    }

    #[test]
    fn extensions_are_off_until_asked_for() {
        let table = "|a|\n|-|\n|1|";
        let with = Markdown::render(table.to_owned(), Extensions::TABLES);
        assert!(with.html.contains("<table>"));
        assert!(!Markdown::to_html(table.to_owned()).contains("<table>"));
    }
}
