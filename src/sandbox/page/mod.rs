//! The sandbox's web page, compiled into the binary: plain files, no build step, nothing from elsewhere.
//!
//! Must not: know the server's state. The page speaks Rocket.Chat's own protocol, as any client does.

/// What a browser lets the page do, whatever a message says: its own files, its own server, nothing else.
/// `blob:` are pictures that somebody uploaded, fetched with the headers of who looks.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The content type and bytes of a file of the page, by its path below `/page/`; `index.html` is also `/`.
pub fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    match path {
        "" | "index.html" => Some(("text/html; charset=utf-8", include_bytes!("index.html"))),
        "style.css" => Some(("text/css; charset=utf-8", include_bytes!("style.css"))),
        "messages.css" => Some(("text/css; charset=utf-8", include_bytes!("messages.css"))),
        "actions.js" => Some((SCRIPT, include_bytes!("actions.js"))),
        "app.js" => Some((SCRIPT, include_bytes!("app.js"))),
        "compose.js" => Some((SCRIPT, include_bytes!("compose.js"))),
        "dom.js" => Some((SCRIPT, include_bytes!("dom.js"))),
        "emoji.js" => Some((SCRIPT, include_bytes!("emoji.js"))),
        "files.js" => Some((SCRIPT, include_bytes!("files.js"))),
        "keys.js" => Some((SCRIPT, include_bytes!("keys.js"))),
        "list.js" => Some((SCRIPT, include_bytes!("list.js"))),
        "markdown.js" => Some((SCRIPT, include_bytes!("markdown.js"))),
        "render.js" => Some((SCRIPT, include_bytes!("render.js"))),
        "session.js" => Some((SCRIPT, include_bytes!("session.js"))),
        "side.js" => Some((SCRIPT, include_bytes!("side.js"))),
        "view.js" => Some((SCRIPT, include_bytes!("view.js"))),
        "favicon.svg" => Some(("image/svg+xml", include_bytes!("favicon.svg"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPTS: [&str; 13] = [
        "actions.js",
        "app.js",
        "compose.js",
        "dom.js",
        "emoji.js",
        "files.js",
        "keys.js",
        "list.js",
        "markdown.js",
        "render.js",
        "session.js",
        "side.js",
        "view.js",
    ];

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(asset(path).expect("there is such a file").1).expect("UTF-8")
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let index = text("index.html");
        let named = index.split('"').filter_map(|part| part.strip_prefix("/page/"));
        let named: Vec<_> = named.map(|path| asset(path).expect(path).0).collect();
        assert!(named.len() >= 3, "{named:?}");
        for script in SCRIPTS {
            let imports = text(script).lines().filter(|line| line.starts_with("import "));
            for import in imports {
                let path = import.split("\"./").nth(1).and_then(|rest| rest.split('"').next()).expect(import);
                assert!(asset(path).is_some(), "{script} imports {path}");
            }
        }
        assert!(asset("../mod.rs").is_none());
    }

    #[test]
    fn foreign_text_is_never_parsed_as_html() {
        for script in SCRIPTS {
            for parser in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text(script).contains(parser), "{script} uses {parser}");
            }
        }
    }
}
