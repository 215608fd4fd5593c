//! PDFs are read in a process of their own, which may crash without the bot.

use std::fmt::Write;
use std::path::PathBuf;

use moltis::gateway::media::pdf::{Error, extract};

/// A PDF of one page with this content stream and these resources.
fn pdf(content: &str, resources: &str) -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R /Resources << {resources} >> >>"
        ),
        format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
        format!(
            "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << {resources} >> /Length 6 >>\nstream\n/X0 Do\nendstream"
        ),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        write!(file, "{} 0 obj\n{object}\nendobj\n", index + 1).unwrap();
    }
    let start = file.len();
    write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    for offset in offsets {
        writeln!(file, "{offset:010} 00000 n ").unwrap();
    }
    write!(
        file,
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n",
        objects.len() + 1
    )
    .unwrap();
    file.into_bytes()
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_moltis").into()
}

#[tokio::test]
async fn the_text_of_a_pdf_is_read() {
    let file = pdf(
        "BT /F1 12 Tf 20 100 Td (Hello from a PDF) Tj ET",
        "/Font << /F1 5 0 R >>",
    );
    let text = extract(program(), file.into()).await.unwrap();
    assert_eq!(text, "Hello from a PDF");
}

#[tokio::test]
async fn hostile_pdfs_fail_without_taking_the_process_along() {
    let recursive = pdf("/X0 Do", "/XObject << /X0 6 0 R >>");
    let nested = pdf("", &format!("/A {}", "[".repeat(500_000)));
    let cases = [
        ("a form that draws itself", recursive),
        ("arrays half a million deep", nested),
        ("no PDF", b"%PDF-1.4 nonsense".to_vec()),
        ("nothing", Vec::new()),
    ];
    for (name, file) in cases {
        let outcome = extract(program(), file.into()).await;
        assert!(
            matches!(outcome, Err(Error::Failed | Error::NoText)),
            "{name}: {outcome:?}"
        );
    }
}
