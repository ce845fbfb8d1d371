//! Pages for people: where a consent starts, and what a browser shows when it is over. Complete without script; nothing is
//! loaded from anywhere. All text that is not ours is escaped here, and here alone.

use crate::http::{Response, empty, with_header};
use data_encoding::BASE64URL_NOPAD;
use hawser_core::Result;
use hawser_core::domain::id::random;
use lambda_http::Body;
use std::fmt::Write;

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:14vh auto 0;\
    padding:0 1.5rem 1.5rem;overflow-wrap:anywhere;color-scheme:light dark;color:#1c2430;background:#fff}\
    h1{font-size:1.5rem;margin:0 0 .5rem}dt{font-weight:600;margin-top:.6rem}dd{margin:0}\
    button{font:inherit;padding:.5rem 1.5rem;margin-top:.5rem}.reference{font-size:.9rem}\
    @media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14181f}}";

/// A page with a heading and one sentence, both text, and the reference under which the log says more. `script` runs if it is
/// there; it must come from us alone.
///
/// # Errors
/// [`hawser_core::Error::Internal`] when the random generator fails.
pub fn page(
    status: u16,
    heading: &str,
    sentence: &str,
    reference: Option<&str>,
    script: Option<&str>,
) -> Result<Response<Body>> {
    let mut main = format!("<p>{}</p>", escaped(sentence));
    if let Some(reference) = reference {
        let reference = escaped(reference);
        let _ = write!(main, "<p class=\"reference\">Reference: {reference}</p>");
    }
    whole(status, heading, &main, script, "'none'", "no-referrer")
}

/// The page on which somebody decides something.
pub struct Question<'a> {
    /// What it asks.
    pub heading: &'a str,
    /// What would happen.
    pub sentence: &'a str,
    /// Names and values.
    pub facts: &'a [(&'a str, String)],
    /// What to think of before the button is pressed.
    pub warnings: &'a [String],
    /// Hidden fields of the form.
    pub fields: &'a [(&'a str, &'a str)],
    /// A field that somebody fills in: what it is called on the page, and its name.
    pub input: Option<(&'a str, &'a str)>,
    /// Where the form is posted to: the path of our own page.
    pub action: &'a str,
    /// The buttons, by what they say. The first one is pressed by the enter key.
    pub buttons: &'a [Button<'a>],
    /// Where the answer to the form may send the browser on to, besides our own pages: sources of a content security policy.
    pub targets: &'a str,
}

/// A button of a form.
#[derive(Clone, Copy, Debug)]
pub struct Button<'a> {
    /// What it says.
    pub text: &'a str,
    /// The field that it sends, with its value.
    pub field: Option<(&'a str, &'a str)>,
}

/// Anywhere by https, and without TLS where our own base has none either: where an issuer is not known yet.
pub fn anywhere(base: &str) -> &'static str {
    if base.starts_with("https://") {
        "https:"
    } else {
        "https: http:"
    }
}

impl Question<'_> {
    /// The page.
    ///
    /// # Errors
    /// [`hawser_core::Error::Internal`] when the random generator fails.
    pub fn page(&self) -> Result<Response<Body>> {
        let mut main = format!("<p>{}</p><dl>", escaped(self.sentence));
        for (name, value) in self.facts {
            let (name, value) = (escaped(name), escaped(value));
            let _ = write!(main, "<dt>{name}</dt><dd>{value}</dd>");
        }
        main.push_str("</dl>");
        for warning in self.warnings {
            let _ = write!(main, "<p>{}</p>", escaped(warning));
        }
        let action = escaped(self.action);
        let _ = write!(main, "<form method=\"post\" action=\"{action}\">");
        for (name, value) in self.fields {
            let (name, value) = (escaped(name), escaped(value));
            let _ = write!(
                main,
                "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">"
            );
        }
        if let Some((label, name)) = self.input {
            let (label, name) = (escaped(label), escaped(name));
            let _ = write!(
                main,
                "<label>{label} <input type=\"text\" name=\"{name}\" maxlength=\"255\" autocomplete=\"off\"></label> "
            );
        }
        for button in self.buttons {
            let text = escaped(button.text);
            let field = button.field.map_or_else(String::new, |(name, value)| {
                let (name, value) = (escaped(name), escaped(value));
                format!(" name=\"{name}\" value=\"{value}\"")
            });
            let _ = write!(main, "<button type=\"submit\"{field}>{text}</button> ");
        }
        main.push_str("</form>");
        // Chromium holds the redirect that answers a form against `form-action` too.
        let targets = format!("'self' {}", self.targets);
        // Without a referrer at all, the browser would send `Origin: null` with the form.
        whole(200, self.heading, &main, None, &targets, "same-origin")
    }
}

/// `main` is HTML, and all the rest text.
fn whole(
    status: u16,
    heading: &str,
    main: &str,
    script: Option<&str>,
    form_action: &str,
    referrer: &str,
) -> Result<Response<Body>> {
    let nonce = BASE64URL_NOPAD.encode(&random::<16>()?);
    let script_source =
        script.map_or_else(String::new, |_| format!("script-src 'nonce-{nonce}'; "));
    let policy = format!(
        "default-src 'none'; {script_source}style-src 'nonce-{nonce}'; base-uri 'none'; form-action {form_action}; \
         frame-ancestors 'none'"
    );
    let script = script.map_or_else(String::new, |text| {
        format!("<script nonce=\"{nonce}\">{text}</script>")
    });
    let heading = escaped(heading);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{heading}</title>\
         <style nonce=\"{nonce}\">{STYLE}</style></head>\
         <body><main><h1>{heading}</h1>{main}</main>{script}</body></html>"
    );
    let mut response = empty(status);
    *response.body_mut() = Body::Text(html);
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy.as_str()),
        ("referrer-policy", referrer),
        ("x-frame-options", "DENY"),
        // A page that was opened as a popup may tell its opener.
        ("cross-origin-opener-policy", "unsafe-none"),
    ];
    Ok(headers
        .into_iter()
        .fold(response, |response, (name, value)| {
            with_header(response, name, value)
        }))
}

/// Sends the browser on. The address is a secret more often than not, so nobody is told where it came from.
pub fn redirect(url: &str) -> Response<Body> {
    let response = with_header(empty(303), "location", url);
    with_header(response, "referrer-policy", "no-referrer")
}

/// Text as it stands between tags or in an attribute. What cannot be seen, or turns the text around it, is written out, so
/// that no name looks like another one.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_unseen(c) => {
                let _ = write!(out, "\\u{{{:04X}}}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

/// Controls, format characters (Unicode `Cf`, among them those of bidirectional text), line separators, spaces other than the
/// usual one, and what Unicode says to ignore when it is shown (`Default_Ignorable_Code_Point`).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{1680}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
            | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(page: &Response<Body>) -> &str {
        let Body::Text(html) = page.body() else {
            panic!("no text");
        };
        html
    }

    #[test]
    fn text_stays_text_and_nothing_else_may_run() {
        let page = page(400, "<b>", "a\"'&</p><script>", Some("<01>"), None).unwrap();
        let main = "<h1>&lt;b&gt;</h1><p>a&quot;&#39;&amp;&lt;/p&gt;&lt;script&gt;</p>\
                    <p class=\"reference\">Reference: &lt;01&gt;</p>";
        assert!(html(&page).contains(main), "{}", html(&page));
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'nonce-"),
            "{policy}"
        );
        assert!(!policy.contains("script-src"));
    }

    #[test]
    fn every_field_of_a_question_is_text() {
        let bad = "\"><script>alert(1)</script>'&";
        let question = Question {
            heading: bad,
            sentence: bad,
            facts: &[(bad, bad.to_owned())],
            warnings: &[bad.to_owned()],
            fields: &[(bad, bad)],
            action: bad,
            input: Some((bad, bad)),
            buttons: &[Button {
                text: bad,
                field: Some((bad, bad)),
            }],
            targets: "https:",
        };
        let page = question.page().unwrap();
        assert!(!html(&page).contains("<script"), "{}", html(&page));
        assert!(!html(&page).contains("=\"\">"), "{}", html(&page));
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("form-action 'self' https:;"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (text, shown) in [
            ("ada\u{202e}gpj", "ada\\u{202E}gpj"),
            ("a\u{200b}da\u{feff}", "a\\u{200B}da\\u{FEFF}"),
            (
                "a\u{2066}\u{e0041}\0\n",
                "a\\u{2066}\\u{E0041}\\u{0000}\\u{000A}",
            ),
            ("\u{3164}\u{ad}x\u{a0}", "\\u{3164}\\u{00AD}x\\u{00A0}"),
            ("Zoë 日本 שלום", "Zoë 日本 שלום"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }
}
