//! What Houston says in a room, as HTML: one voice in both places. Only what `chat` writes is understood: code, blocks,
//! bold, slanted, signs.
//!
//! Must not: make anything out of foreign text but text. Every character is escaped, whatever stands around it.

/// Signs that `chat` uses.
const SIGNS: &[(&str, &str)] = &[
    ("arrow_forward", "▶️"),
    ("arrow_up", "⬆️"),
    ("alarm_clock", "⏰"),
    ("bulb", "💡"),
    ("clipboard", "📋"),
    ("double_vertical_bar", "⏸️"),
    ("fire", "🔥"),
    ("grey_question", "❔"),
    ("hourglass", "⌛"),
    ("hourglass_flowing_sand", "⏳"),
    ("leftwards_arrow_with_hook", "↩️"),
    ("lock", "🔒"),
    ("no_entry_sign", "🚫"),
    ("octagonal_sign", "🛑"),
    ("+1", "👍"),
    ("-1", "👎"),
    ("raised_hand", "✋"),
    ("raising_hand", "🙋"),
    ("repeat", "🔁"),
    ("rotating_light", "🚨"),
    ("snowflake", "❄️"),
    ("sos", "🆘"),
    ("warning", "⚠️"),
    ("white_check_mark", "✅"),
    ("x", "❌"),
];

const FENCE: &str = "```";

/// One line of what Houston says, such as the title of a step.
pub(super) fn line(said: &str) -> String {
    let mut out = String::new();
    inline(said, &mut out);
    out
}

/// Paragraphs and blocks.
pub(super) fn html(said: &str) -> String {
    let mut out = String::new();
    for (index, part) in said.split(FENCE).enumerate() {
        // What is fenced has its fences on lines of their own.
        let part = part.trim_matches('\n');
        if part.is_empty() {
            continue;
        }
        if index % 2 == 1 {
            out.push_str("<pre>");
            text(part, &mut out);
            out.push_str("</pre>");
        } else {
            for line in part.lines() {
                out.push_str("<p>");
                inline(line, &mut out);
                out.push_str("</p>");
            }
        }
    }
    out
}

fn inline(line: &str, out: &mut String) {
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 1 {
            out.push_str("<code>");
            text(part, out);
            out.push_str("</code>");
        } else {
            marked(part, out);
        }
    }
}

/// Outside of code.
fn marked(mut rest: &str, out: &mut String) {
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let inner = |close: char| {
            let end = after.find(close).filter(|end| *end > 0 && !before.is_alphanumeric())?;
            Some((&after[..end], &after[end + 1..]))
        };
        let (tag, found) = match c {
            ':' => match sign(after) {
                Some((sign, after)) => {
                    out.push_str(sign);
                    (before, rest) = (' ', after);
                    continue;
                }
                None => ("", None),
            },
            '*' => ("strong", inner('*')),
            '_' => ("em", inner('_')),
            _ => ("", None),
        };
        match found {
            Some((inside, after)) => {
                out.push_str(&format!("<{tag}>"));
                text(inside, out);
                out.push_str(&format!("</{tag}>"));
                (before, rest) = (' ', after);
            }
            None => {
                escape(c, out);
                (before, rest) = (c, after);
            }
        }
    }
}

/// The sign that begins here, after its colon, and what follows it.
fn sign(rest: &str) -> Option<(&'static str, &str)> {
    let (name, after) = rest.split_once(':')?;
    let (_, sign) = SIGNS.iter().find(|(known, _)| *known == name)?;
    Some((sign, after))
}

fn text(text: &str, out: &mut String) {
    text.chars().for_each(|c| escape(c, out));
}

fn escape(c: char, out: &mut String) {
    match c {
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '&' => out.push_str("&amp;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#x27;"),
        // Put behind an `@` so that nobody is called in chat; here it would be copied along.
        '\u{200b}' => {}
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chat_writes_is_marked_up() {
        assert_eq!(
            html(
                ":sos: *R-1* `deploy prod` is stuck\nBy hand:\n```\nssh a@\u{200b}b 'x'\n```\nSay `!retry R-1`"
            ),
            "<p>🆘 <strong>R-1</strong> <code>deploy prod</code> is stuck</p><p>By hand:</p>\
             <pre>ssh a@b &#x27;x&#x27;</pre><p>Say <code>!retry R-1</code></p>"
        );
        assert_eq!(
            html("a_b_c 2*3*4 12:30:00 _I was away_"),
            "<p>a_b_c 2*3*4 12:30:00 <em>I was away</em></p>"
        );
    }

    #[test]
    fn nothing_foreign_becomes_an_element() {
        for hostile in [
            "<script>alert(1)</script>",
            "*<img src=x onerror=alert(1)>*",
            "`</code><svg onload=alert(1)>`",
            "```\n</pre><iframe src=//x>\n```",
            "_<b>_ :<i>: \" ' &lt;",
            "*unclosed <a",
            "` `` ``` ```` <u>",
        ] {
            let drawn = html(hostile);
            let own = ["p", "/p", "pre", "/pre", "code", "/code", "strong", "/strong", "em", "/em"];
            for tag in drawn.split('<').skip(1) {
                let name = tag.split('>').next().unwrap_or_default();
                assert!(own.contains(&name), "`{name}` out of {hostile}: {drawn}");
            }
            assert!(!drawn.contains('"') && !drawn.contains('\''), "{drawn}");
        }
    }
}
