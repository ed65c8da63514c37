//! The sandbox's web page, compiled into the binary.

/// The content type and bytes of a file of the page, by its path below `/page/`; `index.html` is also `/`.
pub fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    match path {
        "" | "index.html" => {
            Some(("text/html; charset=utf-8", b"<!doctype html><title>Houston sandbox</title>\n"))
        }
        _ => None,
    }
}
