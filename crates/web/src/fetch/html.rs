//! Markup to text with a little Markdown: headings, lists, links, code. One pass over the tokens of
//! a page, without a tree: memory and time are in proportion to the page, however it is nested. Ours
//! and not a renderer of tables and boxes, because pages are hostile and layout is no use to a model.

use html5gum::{StartTag, Token, Tokenizer};
use url::Url;

/// Longest link that is kept, bytes.
const MAX_LINK: usize = 2_048;

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) title: Option<String>,
    pub(super) text: String,
    /// Whether the page went on after `text` was long enough.
    pub(super) is_cut: bool,
}

/// The text of `html`, with links relative to `url`. Stops soon after `most` characters.
pub(super) fn text(html: &str, url: &Url, most: usize) -> Text {
    let mut writer = Writer::new(url);
    let mut title: Option<String> = None;
    let mut in_title = false;
    let mut is_cut = false;
    // What is left out, and how often it is open.
    let mut skipping: Option<(Vec<u8>, usize)> = None;
    for Ok(token) in Tokenizer::new(html) {
        // Characters are at most four bytes.
        if writer.text.len() > most.saturating_mul(4) {
            is_cut = true;
            break;
        }
        if let Some((name, depth)) = &mut skipping {
            match &token {
                Token::StartTag(tag) if *tag.name == **name && !tag.self_closing => *depth += 1,
                Token::EndTag(tag) if *tag.name == **name => *depth -= 1,
                _ => {}
            }
            if *depth == 0 {
                skipping = None;
            }
            continue;
        }
        match token {
            Token::StartTag(tag) => match &tag.name[..] {
                b"title" => in_title = title.is_none(),
                // Only foreign elements can close themselves.
                b"svg" if tag.self_closing => {}
                b"script" | b"style" | b"template" | b"svg" | b"noscript" | b"iframe"
                | b"canvas" | b"object" | b"noframes" | b"noembed" => {
                    skipping = Some((tag.name.to_vec(), 1));
                }
                _ => writer.open(&tag),
            },
            Token::EndTag(tag) if *tag.name == *b"title" => in_title = false,
            Token::EndTag(tag) => writer.close(&tag.name),
            Token::String(string) => {
                let string = String::from_utf8_lossy(&string);
                if in_title {
                    title.get_or_insert_default().push_str(&string);
                } else {
                    writer.words(&string);
                }
            }
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    let title = title.map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "));
    Text {
        title: title.filter(|title| !title.is_empty()),
        text: writer.finish(),
        is_cut,
    }
}

/// Puts words and breaks together.
struct Writer {
    base: Url,
    text: String,
    /// Newlines owed before the next word: 1 for a line, 2 for a paragraph.
    breaks: usize,
    /// A space owed before the next word.
    space: bool,
    /// Where the open link leads.
    link: Option<String>,
    /// How many `pre` are open.
    preformatted: usize,
}

impl Writer {
    fn new(base: &Url) -> Self {
        Self {
            base: base.clone(),
            text: String::new(),
            breaks: 0,
            space: false,
            link: None,
            preformatted: 0,
        }
    }

    fn open(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &[u8]| {
            tag.attributes
                .get(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        match &tag.name[..] {
            b"base" => {
                let base = attribute(b"href").filter(|href| href.len() <= MAX_LINK);
                if let Some(base) = base.and_then(|href| self.base.join(&href).ok()) {
                    self.base = base;
                }
            }
            b"br" => self.break_line(1),
            b"hr" => {
                self.break_line(2);
                self.raw("---");
                self.break_line(2);
            }
            b"a" => {
                self.end_link();
                if let Some(link) = attribute(b"href").and_then(|href| self.link(&href)) {
                    self.raw("[");
                    self.link = Some(link);
                }
            }
            b"img" => {
                if let Some(alt) = attribute(b"alt").filter(|alt| !alt.trim().is_empty()) {
                    self.words(&alt);
                }
            }
            b"pre" => {
                self.break_line(2);
                if self.preformatted == 0 {
                    self.raw("```");
                    self.break_line(1);
                }
                self.preformatted += 1;
            }
            b"li" => {
                self.break_line(1);
                self.raw("- ");
            }
            b"td" | b"th" => {
                if self.breaks == 0 && !self.text.is_empty() {
                    self.raw(" | ");
                }
            }
            name => {
                self.block(name);
                if let Some(level) = heading(name) {
                    self.raw(&"#".repeat(level));
                    self.raw(" ");
                }
            }
        }
    }

    fn close(&mut self, name: &[u8]) {
        match name {
            b"a" => self.end_link(),
            b"pre" => {
                self.preformatted = self.preformatted.saturating_sub(1);
                if self.preformatted == 0 {
                    self.break_line(1);
                    self.raw("```");
                    self.break_line(2);
                }
            }
            b"li" => self.break_line(1),
            name => self.block(name),
        }
    }

    /// The break around a block element.
    fn block(&mut self, name: &[u8]) {
        match name {
            b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"ul" | b"ol" | b"dl"
            | b"table" | b"blockquote" | b"article" | b"section" | b"figure" => self.break_line(2),
            b"div" | b"tr" | b"dt" | b"dd" | b"header" | b"footer" | b"main" | b"nav"
            | b"aside" | b"form" | b"figcaption" | b"body" | b"address" | b"fieldset"
            | b"option" | b"summary" | b"details" | b"caption" | b"textarea" => self.break_line(1),
            _ => {}
        }
    }

    fn break_line(&mut self, newlines: usize) {
        // A link does not go on over a block.
        self.end_link();
        self.breaks = self.breaks.max(newlines);
        self.space = false;
    }

    fn words(&mut self, string: &str) {
        if self.preformatted > 0 {
            self.raw(string);
            return;
        }
        for (index, word) in string.split(is_space).enumerate() {
            self.space |= index > 0;
            if !word.is_empty() {
                self.raw(word);
            }
        }
    }

    /// Adds `string` as it is, after what is owed.
    fn raw(&mut self, string: &str) {
        if self.text.is_empty() {
            self.breaks = 0;
        }
        if self.breaks > 0 {
            self.text.extend(std::iter::repeat_n('\n', self.breaks));
        } else if self.space && !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
        (self.breaks, self.space) = (0, false);
        self.text.push_str(string);
    }

    fn link(&self, href: &str) -> Option<String> {
        let href = href.trim();
        if href.is_empty() || href.starts_with('#') || href.len() > MAX_LINK {
            return None;
        }
        let url = self.base.join(href).ok()?;
        let url = matches!(url.scheme(), "http" | "https").then(|| String::from(url))?;
        (url.len() <= MAX_LINK).then_some(url)
    }

    fn end_link(&mut self) {
        let Some(link) = self.link.take() else {
            return;
        };
        if self.text.ends_with('[') {
            // Nothing to read in it.
            self.text.pop();
        } else {
            self.text.push_str("](");
            self.text.push_str(&link);
            self.text.push(')');
        }
    }

    fn finish(mut self) -> String {
        self.end_link();
        let kept = self.text.trim_end().len();
        self.text.truncate(kept);
        self.text
    }
}

fn heading(name: &[u8]) -> Option<usize> {
    match name {
        [b'h', level @ b'1'..=b'6'] => Some(usize::from(level - b'0')),
        _ => None,
    }
}

/// White space that markup collapses; a no-break space is a character like others.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(html: &str) -> Text {
        text(
            html,
            &Url::parse("https://example.com/a/b").unwrap(),
            100_000,
        )
    }

    #[test]
    fn a_page_reads_like_one() {
        let page = read(
            "<!doctype html><html><head><title> A\n page </title><style>p{}</style>\
             <script>if (a<b) document.write('<p>no</p>')</script></head><body>\
             <nav><ul><li><a href='/x?a=1&amp;b=2'>Home</a><li><a href=c>C</a></ul></nav>\
             <h1>Hello &amp; <em>welcome</em></h1>\n<p>One\n  two <b>three</b>.<br>Four</p>\
             <!-- hidden --><noscript>no</noscript><svg><title>no</title><path/></svg>\
             <pre><code>fn main() {\n    1\n}</code></pre>\
             <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>\
             <p><a href='#top'>top</a> <a href='javascript:x'>js</a> <img alt='a cat' src=x>\
             <a href='//o.org/'> </a></p><hr><p>End",
        );
        assert_eq!(page.title.as_deref(), Some("A page"));
        let expected = "- [Home](https://example.com/x?a=1&b=2)\n- [C](https://example.com/a/c)\n\n\
                        # Hello & welcome\n\nOne two three.\nFour\n\n\
                        ```\nfn main() {\n    1\n}\n```\n\na | b\n1 | 2\n\n\
                        top js a cat\n\n---\n\nEnd";
        assert_eq!(page.text, expected);
        assert!(!page.is_cut);
    }

    #[test]
    fn odd_markup_is_no_trouble() {
        assert_eq!(read("").text, "");
        assert_eq!(read("plain & simple").text, "plain & simple");
        assert_eq!(read("<p>a<p>b").text, "a\n\nb");
        assert_eq!(
            read("<a href=x>one<a href=y>two").text,
            "[one](https://example.com/a/x)[two](https://example.com/a/y)"
        );
        assert_eq!(read("<script>never closed <p>x").text, "");
        assert_eq!(read("</p></pre></a></div>x").text, "```\n\nx");
        assert_eq!(
            read("<base href='https://b.org/'><a href=x>y</a>").text,
            "[y](https://b.org/x)"
        );
        assert_eq!(read("<svg/>x").text, "x");
        assert_eq!(read(&"<div>".repeat(100_000)).text, "");
    }

    #[test]
    fn what_grows_is_cut() {
        let long = format!("https://example.com/{}", "x".repeat(2_000));
        let page = format!("<base href='{long}'>{}", "<a href=?>x</a>".repeat(200_000));
        let read = text(&page, &Url::parse("https://example.com").unwrap(), 1_000);
        assert!(read.is_cut);
        assert!(read.text.len() < 10_000);
    }

    proptest! {
        #[test]
        fn never_panics(html in "(<[a-z/!-]{0,6}( (href|alt)=[^>]{0,9})?>?|\\PC{0,6}|&[a-z#0-9]{0,5};?){0,40}") {
            let page = read(&html);
            prop_assert!(page.text.len() <= 4_096 + html.len() * 2_100);
        }
    }
}
