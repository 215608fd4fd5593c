//! Bodies as they were seen, and ways to say when to come back.

use super::*;
use time::macros::datetime;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

#[test]
fn a_refusal_is_understood_in_any_shape() {
    struct Row {
        name: &'static str,
        status: u16,
        body: &'static str,
        expected: &'static str,
    }
    let row = |name, status, body, expected| Row {
        name,
        status,
        body,
        expected,
    };
    let table = [
        row(
            "OpenAI, no quota",
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            "NoCredit",
        ),
        row(
            "OpenAI, too long",
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens","code":"context_length_exceeded"}}"#,
            "ContextTooLong",
        ),
        row(
            "OpenAI, no such model",
            404,
            r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#,
            "NoSuchModel(\"The model `x` does not exist\")",
        ),
        row(
            "Azure's filter",
            400,
            r#"{"error":{"code":"content_filter","message":"The response was filtered"}}"#,
            "ContentRefused",
        ),
        row(
            "Gemini, in a list, with a delay",
            429,
            r#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"x"},{"retryDelay":"34.5s"}]}}]"#,
            "RateLimited { retry_after: Some(34.5s) }",
        ),
        row(
            "Ollama",
            404,
            r#"{"error":"model 'x' not found"}"#,
            "NoSuchModel(\"model 'x' not found\")",
        ),
        row(
            "FastAPI",
            422,
            r#"{"detail":[{"loc":["body"],"msg":"Field\n required"}]}"#,
            "Invalid { status: 422, message: \"Field required\" }",
        ),
        row(
            "FastAPI, plain",
            400,
            r#"{"detail":"Nope"}"#,
            "Invalid { status: 400, message: \"Nope\" }",
        ),
        row(
            "vLLM",
            400,
            r#"{"object":"error","message":"input is too long","code":400}"#,
            "ContextTooLong",
        ),
        row(
            "llama.cpp",
            500,
            r#"{"error":{"code":500,"message":"the request exceeds the available context window"}}"#,
            "ContextTooLong",
        ),
        row(
            "DeepSeek",
            402,
            r#"{"error":{"message":"Insufficient Balance"}}"#,
            "NoCredit",
        ),
        row(
            "a filter with 403",
            403,
            r#"{"error":{"message":"Your input was flagged by moderation"}}"#,
            "ContentRefused",
        ),
        row(
            "HTML",
            400,
            "<!doctype html><h1>Bad</h1>",
            "Invalid { status: 400, message: \"it answered with a web page\" }",
        ),
        row("HTML", 403, "\n<html>", "Unauthorized { status: 403 }"),
        row("nothing", 400, "", "Invalid { status: 400, message: \"\" }"),
        row(
            "null",
            400,
            "null",
            "Invalid { status: 400, message: \"\" }",
        ),
        row(
            "text",
            503,
            "upstream connect error",
            "Unavailable { status: 503, retry_after: None }",
        ),
        row(
            "Cloudflare",
            524,
            "<html>",
            "Unavailable { status: 524, retry_after: None }",
        ),
        row("too large", 413, "", "ContextTooLong"),
        row("time-out", 408, "", "TimedOut"),
    ];
    for row in table {
        let error = classify(row.status, &HeaderMap::new(), row.body);
        assert_eq!(format!("{error:?}"), row.expected, "{}", row.name);
    }
}

#[test]
fn an_error_inside_a_stream_is_understood_by_code_or_kind() {
    let table = [
        (
            r#"{"code":"502","message":"Bad"}"#,
            "Unavailable { status: 502, retry_after: None }",
        ),
        (
            r#"{"type":"overloaded_error"}"#,
            "Unavailable { status: 529, retry_after: None }",
        ),
        (
            r#"{"type":"rate_limit_error"}"#,
            "RateLimited { retry_after: None }",
        ),
        (
            r#"{"code":"rate_limit_exceeded","message":"Slow down"}"#,
            "RateLimited { retry_after: None }",
        ),
        (
            r#"{"type":"invalid_request_error","message":"No"}"#,
            "Invalid { status: 400, message: \"No\" }",
        ),
        (
            r#"{"type":"authentication_error"}"#,
            "Unauthorized { status: 401 }",
        ),
        (
            r#"{"code":1,"message":"?"}"#,
            "Unavailable { status: 500, retry_after: None }",
        ),
        (
            r#""Something""#,
            "Unavailable { status: 500, retry_after: None }",
        ),
        ("[[[[]]]]", "Unavailable { status: 500, retry_after: None }"),
    ];
    for (error, expected) in table {
        let value = serde_json::from_str(error).unwrap();
        assert_eq!(format!("{:?}", classify_event(&value)), expected, "{error}");
    }
}

#[test]
fn when_to_come_back_is_read_in_every_form() {
    type Row = (&'static [(&'static str, &'static str)], Option<f64>);
    let now = datetime!(2026-01-31 23:59:50 UTC);
    let table: [Row; 10] = [
        (&[("retry-after", "7")], Some(7.0)),
        (&[("retry-after", " 0.5 ")], Some(0.5)),
        (
            &[("retry-after", "Sun, 01 Feb 2026 00:00:05 GMT")],
            Some(15.0),
        ),
        (
            &[("retry-after", "Sat, 31 Jan 2026 23:00:00 GMT")],
            Some(0.0),
        ),
        (
            &[("retry-after", "9"), ("retry-after-ms", "250")],
            Some(0.25),
        ),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "inf")], None),
        (&[("retry-after", "1e300")], None),
        (&[], None),
    ];
    for (pairs, expected) in table {
        let found = retry_after(&headers(pairs), now).map(|wait| wait.as_secs_f64());
        assert_eq!(found, expected, "{pairs:?}");
    }
}

#[test]
fn long_messages_are_cut_to_one_clean_line() {
    let long = format!("a\u{7}b\n{}", "ä".repeat(1000));
    let line = shorten(&long);
    assert!(line.starts_with("a b ä") && line.ends_with("ä…"), "{line}");
    assert_eq!(line.chars().count(), MESSAGE + 1);
}
