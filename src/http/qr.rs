//! QR codes: for a terminal, and for a page.

use qrcode::render::{svg, unicode};
use qrcode::{EcLevel, QrCode};

/// As lines of half blocks, dark on light whatever colours the terminal has. `None`: too long for one.
pub fn for_terminal(text: &str) -> Option<String> {
    // Light is what is printed: most terminals are dark.
    let lines = code(text)?
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Dark)
        .light_color(unicode::Dense1x2::Light)
        .build();
    Some(lines)
}

/// As an `<svg>` that stands in a page.
pub(super) fn for_page(text: &str) -> Option<String> {
    let image = code(text)?
        .render::<svg::Color<'_>>()
        .min_dimensions(200, 200)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    // What comes before is for a file of its own.
    image
        .find("<svg")
        .and_then(|start| image.get(start..))
        .map(str::to_owned)
}

fn code(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::M).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "xmpp:example.org?register;preauth=0123456789abcdefABCDEFGH";

    #[test]
    fn a_terminal_gets_lines_of_the_same_width() {
        let lines = for_terminal(LINK).unwrap();
        let widths: Vec<_> = lines.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{lines}");
        // Version 5 (37 modules) and four modules of quiet around it.
        assert!((33..=53).contains(&widths[0]), "{widths:?}");
        assert!(lines.chars().all(|c| "█▀▄ \n".contains(c)), "{lines}");
    }

    #[test]
    fn a_page_gets_an_image_without_a_script() {
        let image = for_page(LINK).unwrap();
        assert!(image.starts_with("<svg") && image.ends_with("</svg>"));
        assert!(
            !image.contains("script") && !image.contains("style"),
            "{image}"
        );
        assert_eq!(for_page(&"x".repeat(10_000)), None);
    }
}
