//! Whether an answer is for a person's browser or for a program.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Whether whoever asks takes pages: browsers say so, `curl` does not. The API under `/api/` never answers with one.
pub fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let takes_html = |value: &str| {
        let kinds = value.split(',').map(|kind| kind.split(';').next().unwrap_or_default());
        kinds.map(str::trim).any(|kind| kind.eq_ignore_ascii_case("text/html"))
    };
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    !path.starts_with("/api/") && accepted.into_iter().any(takes_html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_told_from_a_program() {
        let check = |path: &str, accept: &str, page| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_page(path, &headers), page, "{path} {accept}");
        };
        check("/approvals", "text/html,application/xhtml+xml,*/*;q=0.8", true);
        check("/approvals", "application/json, Text/HTML;q=0.9", true);
        check("/approvals", "*/*", false);
        check("/approvals", "text/html-like", false);
        check("/api/v1/approvals", "text/html", false);
        assert!(!wants_page("/approvals", &HeaderMap::new()));
    }
}
