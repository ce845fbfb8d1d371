//! A browser, its pages and their forms.

use super::{Seen, hold};
use std::collections::BTreeMap;

/// A browser: it keeps cookies, and says where it is sent instead of going there.
#[derive(Clone)]
pub struct Browser {
    http: reqwest::Client,
    pub cookies: BTreeMap<String, String>,
    /// Where it takes itself to be; unset: where it really is. They differ behind a load balancer.
    pub origin: Option<String>,
}

/// What it was shown.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub location: Option<String>,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy();
        Self {
            http: http
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            cookies: BTreeMap::new(),
            origin: None,
        }
    }

    pub async fn open(&mut self, url: &str) -> Page {
        self.send(self.http.get(url)).await
    }

    /// Sends a request with the cookies that it has, and keeps those that it gets.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let request = request.header("cookie", self.cookie()).build().unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = self.http.execute(request).await.unwrap();
        // It also visits issuers.
        let is_ours = response.headers().contains_key("hawser-request-id");
        let headers = response.headers().iter();
        let headers: Vec<(String, String)> = headers
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        for cookie in response.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = response.headers().get("location");
        let location = location.map(|location| location.to_str().unwrap().to_owned());
        let page = Page {
            status: response.status().as_u16(),
            location,
            text: response.text().await.unwrap(),
        };
        if is_ours {
            hold(&Seen {
                method: method.as_str(),
                path: url.path(),
                status: page.status,
                headers: &headers,
                body: &page.text,
            });
        }
        page
    }

    /// The header that it sends its cookies with.
    pub fn cookie(&self) -> String {
        let pairs = self.cookies.iter().map(|(n, v)| format!("{n}={v}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// Presses the button of a page, as the page at `url` was shown.
    pub async fn press(&mut self, url: &str, page: &Page) -> Page {
        self.submit(url, &Form::of(page)).await
    }

    /// Sends a form of the page at `url`.
    pub async fn submit(&mut self, url: &str, form: &Form) -> Page {
        let target = url::Url::parse(url).unwrap().join(&form.action).unwrap();
        let origin = self.origin.clone();
        let origin = origin.unwrap_or_else(|| target.origin().ascii_serialization());
        let request = posted(self.http.post(target), &form.fields);
        let request = request.header("sec-fetch-site", "same-origin");
        self.send(request.header("origin", origin)).await
    }

    /// Posts a form.
    pub async fn post(&mut self, url: &str, fields: &[(String, String)]) -> Page {
        self.send(posted(self.http.post(url), fields)).await
    }

    /// Opens a consent URL and presses the button there.
    pub async fn start(&mut self, endpoint: &str) -> Page {
        let page = self.open(endpoint).await;
        assert_eq!(page.status, 200, "{page:?}");
        self.press(endpoint, &page).await
    }

    /// The same; where the issuer would ask the user.
    pub async fn begin(&mut self, endpoint: &str) -> String {
        let page = self.start(endpoint).await;
        assert_eq!(page.status, 303, "{page:?}");
        page.location.unwrap()
    }
}

/// A request with this form.
pub fn posted(
    request: reqwest::RequestBuilder,
    fields: &[(impl AsRef<str>, impl AsRef<str>)],
) -> reqwest::RequestBuilder {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        body.append_pair(name.as_ref(), value.as_ref());
    }
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish())
}

/// The form of a page.
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl Form {
    #[track_caller]
    pub fn of(page: &Page) -> Self {
        let between = |text: &str, start: &str| {
            let (_, rest) = text.split_once(start)?;
            let (value, _) = rest.split_once('"')?;
            Some(value.replace("&#39;", "'").replace("&amp;", "&"))
        };
        let action = between(&page.text, "<form method=\"post\" action=\"");
        let field = |input: &str| Some((between(input, "name=\"")?, between(input, "value=\"")?));
        Self {
            action: action.unwrap_or_else(|| panic!("no form: {page:?}")),
            fields: page
                .text
                .split("<input")
                .skip(1)
                .filter_map(field)
                .collect(),
        }
    }
}
