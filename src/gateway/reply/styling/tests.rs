//! What models write, and what a client is to get.

use proptest::prelude::*;

use super::*;

#[test]
fn markdown_becomes_message_styling() {
    struct Row {
        name: &'static str,
        markdown: &'static str,
        styled: &'static str,
    }
    let row = |name, markdown, styled| Row {
        name,
        markdown,
        styled,
    };
    let rows = [
        row("plain", "Hello, world.", "Hello, world."),
        row("strong", "a **b** c", "a *b* c"),
        row("emphasis", "a *b* and _c_", "a _b_ and _c_"),
        row("strike", "~~gone~~", "~gone~"),
        row("nested", "***both*** **a _b_ c**", "_*both*_ *a _b_ c*"),
        row("strong in strong", "# A **b** c", "*A b c*"),
        row("heading", "## Title\n\ntext", "*Title*\n\ntext"),
        row("heading with code", "# Use `x`", "*Use `x`*"),
        row("code", "run `ls -l *.rs`", "run `ls -l *.rs`"),
        row("code with backticks", "``a`b``", "a`b"),
        row("strong within a word", "in**cred**ible", "incredible"),
        row("strong after a bracket", "(**b**)", "(b)"),
        row("strong over lines", "**a\nb**", "*a*\n*b*"),
        row("strong with an asterisk", "**2*3 = 6**", "2*3 = 6"),
        row("products", "2*3*4 and 5 * 6", "2*3*4 and 5 * 6"),
        row("powers", "2**3**4", "2**3**4"),
        row("a product of letters", "a*b*c", "a*b*c"),
        row("a product in strong", "**x = 2*3*4**", "x = 2*3*4"),
        row(
            "a product after an asterisk",
            r"\*a 2*3*4",
            "\u{2060}*a 2*3*4",
        ),
        row("snake case", "snake_case_name", "snake_case_name"),
        row(
            "literal asterisks",
            r"\*not strong\*",
            "\u{2060}*not strong*",
        ),
        row("one asterisk", r"\*args", "*args"),
        row(
            "two that open",
            r"\*args, \*\*kw",
            "\u{2060}*args, \u{2060}**kw",
        ),
        row("literal and ours", r"\*a **b**", "\u{2060}*a *b*"),
        row("dunder", r"\_\_init\_\_", "\u{2060}__init__"),
        row("literal quote", r"\> no quote", "\u{2060}> no quote"),
        row("comparison", "a > b", "a > b"),
        row(
            "list",
            "- a\n- b\n  - c\n    - d\n- e",
            "- a\n- b\n  - c\n    - d\n- e",
        ),
        row("starred list", "* a\n* b", "- a\n- b"),
        row("ordered", "3. a\n4. b\n\n   more", "3. a\n4. b\n   more"),
        row("loose list", "- a\n\n- b", "- a\n- b"),
        row("tasks", "- [x] a\n- [ ] b", "- [x] a\n- [ ] b"),
        row("text around a list", "x\n\n- a\n\ny", "x\n\n- a\n\ny"),
        row("empty item", "- \n- b", "-\n- b"),
        row("quote", "> a\n> b\n>\n> c\n\nd", "> a\n> b\n>\n> c\n\nd"),
        row("nested quote", "> a\n>> b", "> a\n>\n> > b"),
        row("list in a quote", "> - a\n> - b", "> - a\n> - b"),
        row(
            "fence",
            "a\n```rust\nfn x() {}\n\n*y*\n```\nb",
            "a\n\n```rust\nfn x() {}\n\n*y*\n```\n\nb",
        ),
        row("indented code", "    a\n    b", "```\na\nb\n```"),
        row(
            "fence in fence",
            "````\n```\nx\n```\n````",
            "```\n ```\nx\n ```\n```",
        ),
        row(
            "fence in a list",
            "1. a\n   ```\n   x\n   ```\n2. b",
            "1. a\n```\nx\n```\n2. b",
        ),
        row("fence in a quote", "> ```\n> x\n> ```", "> ```\n> x\n> ```"),
        row("open fence", "a\n```py\nprint(", "a\n\n```py\nprint(\n```"),
        row(
            "link",
            "see [the docs](https://x.org/a_b_c).",
            "see the docs (https://x.org/a_b_c).",
        ),
        row("autolink", "<https://x.org>", "https://x.org"),
        row(
            "link to itself",
            "[https://x.org](https://x.org)",
            "https://x.org",
        ),
        row("mail", "<a@b.org>", "a@b.org"),
        row("link without text", "[](https://x.org)", "https://x.org"),
        row(
            "strong link",
            "**[a](https://x.org)**",
            "*a (https://x.org)*",
        ),
        row(
            "image",
            "![a cat](https://x.org/c.png)",
            "a cat (https://x.org/c.png)",
        ),
        row("HTML", "<b>x</b> &amp; <script>", "<b>x</b> & <script>"),
        row(
            "HTML block",
            "<div>\n*a*\n</div>",
            "<div>\n\u{2060}*a*\n</div>",
        ),
        row("footnote", "a[^1]\n\n[^1]: b", "a[1]\n\n[1] b"),
        row("rule", "a\n\n---\n\nb", "a\n\n---\n\nb"),
        row("line ends", "a\nb  \nc", "a\nb\nc"),
        row("empty", " \n\n ", ""),
        row(
            "table",
            "| Name | n |\n|:--|--:|\n| `a` | 1 |\n| 日本 | **10** |\n| c |",
            "```\nName |  n\n-----+---\na    |  1\n日本 | 10\nc\n```",
        ),
    ];
    for row in rows {
        assert_eq!(render(row.markdown, true), row.styled, "{}", row.name);
    }
}

#[test]
fn without_styling_the_text_is_as_the_model_wrote_it() {
    let markdown = "# A\n\n**b** `c` [d](https://x.org)";
    assert_eq!(
        render(markdown, false),
        "# A\n\n**b** `c` [d](https://x.org)"
    );
}

#[test]
fn an_open_fence_stays_a_fence_while_it_is_written() {
    let markdown = "Look:\n\n```rust\nfn main() {\n    println!(\"*x*\");\n}\n";
    let start = markdown.find("rust\n").unwrap() + 5;
    for end in start..=markdown.len() {
        let styled = render(markdown.get(..end).unwrap(), true);
        assert!(styled.starts_with("Look:\n\n```rust\n"), "{styled}");
        assert!(styled.ends_with("\n```"), "{styled}");
        assert_eq!(styled.matches("```").count(), 2, "{styled}");
    }
}

#[test]
fn hostile_nesting_stays_linear() {
    let cases = [
        format!("{}a{}", ">".repeat(5_000), "\nb".repeat(5_000)),
        format!("{}a{}", "- ".repeat(5_000), "\nb".repeat(5_000)),
        "*_~~".repeat(5_000),
        "**a ".repeat(5_000),
        format!(
            "|{}\n|{}\n{}",
            "a|".repeat(2_000),
            "-|".repeat(2_000),
            "|x\n".repeat(2_000)
        ),
        format!(
            "|a|\n|-|\n|{}|\n{}",
            "w".repeat(5_000),
            "|x|\n".repeat(2_000)
        ),
        "[".repeat(10_000),
        "`a ".repeat(5_000),
    ];
    for markdown in cases {
        let styled = render(&markdown, true);
        assert!(styled.len() <= 60 * markdown.len(), "{}", styled.len());
    }
}

/// Text out of the characters that matter.
fn markdown() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        proptest::sample::select(vec![
            "*",
            "**",
            "_",
            "~~",
            "`",
            "```",
            "\n",
            "\n\n",
            " ",
            "    ",
            "a",
            "b c",
            "> ",
            "- ",
            "1. ",
            "# ",
            "|",
            "|-|\n",
            "[x](y)",
            "![",
            "]",
            "<b>",
            "é",
            "日本",
            "👩‍👩‍👧",
            "\\",
            "[^1]",
            "[^1]: ",
            "\u{0}",
            "\t",
        ]),
        0..60,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_and_any_part_of_it_is_styled(markdown in markdown()) {
        for (end, _) in markdown.char_indices().chain([(markdown.len(), ' ')]) {
            let styled = render(markdown.get(..end).unwrap(), true);
            prop_assert!(styled.len() <= 60 * end + 20);
        }
    }

    #[test]
    fn arbitrary_unicode_is_styled(markdown in "\\PC*") {
        let styled = render(&markdown, true);
        prop_assert!(styled.len() <= 60 * markdown.len() + 20);
    }
}
