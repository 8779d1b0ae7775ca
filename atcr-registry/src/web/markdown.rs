//! Descriptions, which strangers write, as HTML that can do nothing.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use url::Url;

/// The longest text that is rendered; the rest of it is not shown.
const MAX_BYTES: usize = 256 * 1024;

/// Renders Markdown. HTML in it is shown as text, links lead to web pages only, and pictures become links: a page
/// loads nothing from anywhere else.
pub(super) fn render(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events = Parser::new_ext(text, options).map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        Event::Start(
            Tag::Link { link_type, dest_url, title, id } | Tag::Image { link_type, dest_url, title, id },
        ) => Event::Start(Tag::Link { link_type, dest_url: target(dest_url), title, id }),
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        // The page has one heading of the first rank already, and ids of its own.
        Event::Start(Tag::Heading { level, .. }) => Event::Start(Tag::Heading {
            level: below(level),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        }),
        Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(below(level))),
        event => event,
    });
    let mut out = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut out, events);
    out
}

fn below(level: pulldown_cmark::HeadingLevel) -> pulldown_cmark::HeadingLevel {
    use pulldown_cmark::HeadingLevel::{H2, H3, H4, H5, H6};
    match level as usize {
        1 => H2,
        2 => H3,
        3 => H4,
        4 => H5,
        _ => H6,
    }
}

/// Where a link may lead: to a whole address of the web, or nowhere.
fn target(link: CowStr<'_>) -> CowStr<'_> {
    match Url::parse(&link) {
        Ok(url) if matches!(url.scheme(), "https" | "http" | "mailto") => String::from(url).into(),
        _ => CowStr::Borrowed("#"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_does_nothing() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "a <b onclick=alert(1)>b</b>",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>1</script>)",
            "![x](https://tracker.example/pixel.png)",
            "![x](javascript:alert(1))",
            "<svg><style><img src=x onerror=alert(1)></style></svg>",
            "```\n</code></pre><script>alert(1)</script>\n```",
            "# h {#id onclick=alert(1)}",
            "[a]: javascript:alert(1)\n[a]",
            "<https://example.com/\"onmouseover=alert(1)>",
            "[x](https://e.example/ \"t\\\" onclick=alert(1) x=\\\"\")",
        ] {
            let html = render(hostile);
            let tags: Vec<&str> = html.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect();
            for tag in tags {
                let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
                assert!(
                    ["p", "a", "h2", "h3", "code", "pre", "em", "br"].contains(&name),
                    "{hostile:?} became {html:?}"
                );
                let outside: String = tag.split('"').step_by(2).collect();
                assert!(!outside.contains(" on"), "{hostile:?} became {html:?}");
            }
            assert!(!html.to_lowercase().contains("href=\"javascript"), "{html}");
            assert!(!html.contains("href=\"data:"), "{html}");
        }
    }

    #[test]
    fn what_is_meant_is_rendered() {
        assert_eq!(
            render("# App\n\nSee [it](https://example.com/a)."),
            "<h2>App</h2>\n<p>See <a href=\"https://example.com/a\">it</a>.</p>\n"
        );
        assert!(render("| a | b |\n|---|---|\n| 1 | 2 |").contains("<td>1</td>"));
    }

    #[test]
    fn a_text_beyond_the_limit_is_cut_between_characters() {
        render(&"ä".repeat(MAX_BYTES));
    }
}
