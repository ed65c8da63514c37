//! From a message to a command line: who is addressed, and which tokens stand where.
//!
//! Must not: know arguments (`bind` does), answer, or panic on any text. Total by construction: every
//! text is either nobody's business here, a command line, a question, or a word that is no command.

use crate::command::CommandSpec;
use crate::gateway::events::RoomKind;
use crate::text;

/// What a message that addresses Houston is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressed {
    Command(CommandLine),
    /// Words that are no command, without the mention.
    Question(String),
    /// Written as a command, but there is none of that name. Worth one short hint.
    Unknown(UnknownCommand),
}

/// `!deplyo prod`: something that looks like a command and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand {
    pub typed: String,
    pub suggestion: Option<String>,
}

impl UnknownCommand {
    /// For the room.
    pub fn hint(&self) -> String {
        let typed = text::code(&text::ellipsis(&self.typed, 40));
        match &self.suggestion {
            Some(near) => format!("There is no command {typed}; did you mean `!{near}`?"),
            None => format!("There is no command {typed}; `!help` lists those that there are."),
        }
    }
}

/// How the command was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `!deploy`
    Bang,
    /// `/deploy`
    Slash,
    /// `@houston deploy`
    Mention,
    /// `deploy`, in a direct message.
    Bare,
}

/// Bytes of [`CommandLine::text`]; always on character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// A cleaned message that is a command, with its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    pub form: Form,
    /// All of it, prefix and further lines included, as typed except for invisible characters.
    pub text: String,
    /// Of the first line, the command's name first.
    pub tokens: Vec<Token>,
    /// Where the first line ends.
    pub line_end: usize,
}

/// A word, a quoted group, or something with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub span: Span,
    /// Without quotes and escapes.
    pub text: String,
    /// Begins with a quote: never a flag and never `key=value`.
    pub quoted: bool,
    /// `--flag`, `--flag=value`, `-h` or `key=value`.
    pub named: Option<Named>,
    /// The quote that is never closed.
    pub unclosed: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// With dashes. Without, it is a name only if the command has an argument of that name.
    pub dashed: bool,
    /// Without dashes.
    pub name: String,
    pub value: Option<String>,
    /// Of the value; of the whole token when it has none.
    pub value_span: Span,
}

/// Reads a message.
///
/// - In rooms only `!word …`, `/word …` and `@bot …` at the very beginning address Houston.
/// - `!word` with an unknown word is answered with a hint only if the word looks like a command's name
///   (letters, digits, `-`, `_`), so that `!!`, `!?`, `!= null` and `!important;` are left alone.
/// - `/word` with an unknown word is answered only if a command is called nearly so: people paste paths,
///   and other bots have slash words too.
/// - After a mention and in direct messages everything is for Houston: what is no command is a question;
///   a first word one letter away from a command is taken for a slip.
/// - A message that is one code span, code block or quotation as a whole counts as its content; a block
///   quote (`> …`) does not, since it repeats what somebody else said.
pub fn addressed(message: &str, bot: &str, room: RoomKind, commands: &[CommandSpec]) -> Option<Addressed> {
    let message = unwrap(&clean(message));
    let direct = room == RoomKind::Direct;
    if let Some(after) = after_mention(&message, bot) {
        let rest = message[after..].trim_start();
        let start = message.len() - rest.len();
        return Some(spoken_to(&message, start, Form::Mention, commands));
    }
    if let Some(found) = prefixed(&message, 0, commands) {
        return Some(found);
    }
    direct.then(|| spoken_to(&message, 0, Form::Bare, commands))
}

/// Reads a text as the command line itself, without asking to whom it is addressed: for the CLI, `can`
/// and answers in a dialogue.
pub fn command_line(text: &str) -> CommandLine {
    let text = unwrap(&clean(text));
    let start = if let Some(rest) = text.strip_prefix(['!', '/']) { text.len() - rest.len() } else { 0 };
    line(text, start, Form::Bare)
}

/// Of a command with all its lines, as Rocket.Chat counts. What is longer is no command but a document.
pub const LONGEST: usize = 2000;

/// The answer to a text that is too long for a command or for a part of one.
pub fn too_long(text: &str) -> Option<String> {
    let length = text::chat_len(text);
    (length > LONGEST).then(|| {
        format!(
            "That is {length} characters long, and I read at most {LONGEST}. Nothing was done. Put the long part where \
             others can look it up, and send the command again with the place."
        )
    })
}

impl CommandLine {
    /// Lines after the first that are not blank.
    pub fn further_lines(&self) -> usize {
        self.text[self.line_end..].lines().filter(|l| !l.trim().is_empty()).count()
    }

    /// The first line, up to its end.
    pub fn first_line(&self) -> &str {
        &self.text[..self.line_end]
    }

    /// Whether it might as well be a question in plain words that only begins like a command (`show me how
    /// to …`, `deploy prod web?`). Asked when such a line cannot be bound: then it is answered, not refused.
    pub fn reads_like_question(&self) -> bool {
        if !matches!(self.form, Form::Mention | Form::Bare) || self.tokens.len() < 3 {
            return false;
        }
        let last = self.first_line().trim_end();
        let second = self.tokens[1].text.to_lowercase();
        let small_words = [
            "me", "us", "we", "i", "you", "the", "a", "an", "how", "what", "why", "when", "who", "with", "of",
        ];
        last.ends_with(['?', '？']) || small_words.contains(&second.as_str())
    }
}

fn prefixed(message: &str, at: usize, commands: &[CommandSpec]) -> Option<Addressed> {
    let form = match message[at..].chars().next()? {
        '!' => Form::Bang,
        '/' => Form::Slash,
        _ => return None,
    };
    let word = first_word(&message[at + 1..]);
    if is_command(word, commands) {
        return Some(Addressed::Command(line(message.to_owned(), at + 1, form)));
    }
    if !looks_like_a_name(word) {
        return None;
    }
    let suggestion = nearest(word, commands);
    if form == Form::Slash && suggestion.is_none() {
        return None;
    }
    let typed = message[at..at + 1 + word.len()].to_owned();
    Some(Addressed::Unknown(UnknownCommand { typed, suggestion }))
}

/// A message that is for Houston whatever it says.
fn spoken_to(message: &str, at: usize, form: Form, commands: &[CommandSpec]) -> Addressed {
    // What follows the mention may be a code span of its own, or have a prefix.
    let inner = unwrap(&message[at..]);
    let (message, at) = if inner == message[at..] { (message.to_owned(), at) } else { (inner, 0) };
    if let Some(found) = prefixed(&message, at, commands) {
        return found;
    }
    let rest = &message[at..];
    if rest.trim().is_empty() {
        return Addressed::Command(line("help".to_owned(), 0, form));
    }
    let word = first_word(rest);
    if is_command(word, commands) {
        return Addressed::Command(line(message, at, form));
    }
    let slip = nearest(word, commands).filter(|near| {
        looks_like_a_name(word)
            && word.chars().count() >= 4
            && strsim::osa_distance(&word.to_lowercase(), near) == 1
            && !rest.trim_end().ends_with('?')
    });
    match slip {
        Some(near) => Addressed::Unknown(UnknownCommand { typed: word.to_owned(), suggestion: Some(near) }),
        None => Addressed::Question(rest.trim().to_owned()),
    }
}

/// Byte after `@bot` and the punctuation that people put there.
fn after_mention(message: &str, bot: &str) -> Option<usize> {
    let rest = message.strip_prefix('@')?;
    let name = rest.get(..bot.len()).filter(|_| !bot.is_empty())?;
    if !name.eq_ignore_ascii_case(bot) {
        return None;
    }
    let after = &rest[bot.len()..];
    let punctuation = after.chars().take_while(|c| matches!(c, ',' | ':' | ';' | '.' | '!' | '?')).count();
    // `@houston.dev` and `@houston-2` are other people; `@houston!status` is a command.
    let next = after[punctuation..].chars().next();
    let ends = next.is_none_or(char::is_whitespace);
    match after.chars().next() {
        Some('!') if !ends => Some(1 + bot.len()),
        Some(',' | ':' | ';') => Some(1 + bot.len() + 1),
        _ if ends => Some(1 + bot.len() + punctuation),
        _ => None,
    }
}

fn first_word(text: &str) -> &str {
    text.split(char::is_whitespace).next().unwrap_or_default()
}

fn looks_like_a_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// First words of all names and aliases.
fn first_words(commands: &[CommandSpec]) -> impl Iterator<Item = &str> {
    commands
        .iter()
        .flat_map(|c| std::iter::once(&c.name).chain(&c.aliases))
        .map(|name| name.split(' ').next().unwrap_or_default())
}

fn is_command(word: &str, commands: &[CommandSpec]) -> bool {
    !word.is_empty() && first_words(commands).any(|name| name.eq_ignore_ascii_case(word))
}

/// A command that `word` probably means.
pub fn nearest(word: &str, commands: &[CommandSpec]) -> Option<String> {
    let mut names: Vec<&str> = first_words(commands).collect();
    names.sort_unstable();
    names.dedup();
    text::did_you_mean(word, names).map(str::to_owned)
}

/// Takes out what nobody sees: zero-width characters (phones and copied web pages bring them), direction
/// overrides and control characters; every kind of blank becomes a plain one. Quotes and dashes stay as
/// they are, since free text is kept as typed; the lexer knows their kinds.
fn clean(message: &str) -> String {
    let message = message.replace("\r\n", "\n");
    let visible: Vec<char> = message.chars().filter_map(visible).collect();
    let mut out = String::with_capacity(message.len());
    for (i, &c) in visible.iter().enumerate() {
        // Joiners hold emoji and Indic scripts together; beside ASCII and quotes they only hide.
        let joins =
            |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_joiner(c) && quote_kind(c).is_none());
        if !is_joiner(c) || (joins(out.chars().next_back()) && joins(visible.get(i + 1).copied())) {
            out.push(c);
        }
    }
    without_quoted_message(out.trim()).trim().to_owned()
}

fn visible(c: char) -> Option<char> {
    match c {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some('\n'),
        c if c.is_whitespace() => Some(' '),
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => None,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Rocket.Chat puts `[ ](https://…?msg=<id>) ` before the text of a message that quotes another one.
fn without_quoted_message(mut message: &str) -> &str {
    while let Some(rest) = message.strip_prefix("[ ](http") {
        let Some((link, after)) = rest.split_once(')') else { break };
        if !link.contains("msg=") || link.contains(char::is_whitespace) {
            break;
        }
        message = after.trim_start();
    }
    message
}

/// The content of a message that is one code block, code span or quotation as a whole.
fn unwrap(message: &str) -> String {
    let mut inner = message.trim();
    // Bounded: each turn takes away at least two characters, and three layers are more than anybody types.
    for _ in 0..3 {
        let wrapped = [("```", "```"), ("`", "`"), ("\"", "\""), ("“", "”"), ("„", "“"), ("«", "»")];
        let found = wrapped.iter().find_map(|(open, close)| {
            let content = inner.strip_prefix(open)?.strip_suffix(close)?;
            (!content.trim().is_empty() && !content.contains(open) && !content.contains(close))
                .then_some(content)
        });
        match found {
            Some(content) => inner = content.trim(),
            None => break,
        }
    }
    inner.to_owned()
}

fn line(text: String, start: usize, form: Form) -> CommandLine {
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let tokens = lex(&text[..line_end], start);
    CommandLine { form, text, tokens, line_end }
}

/// Kinds of quotes; what a phone makes of `"` and `'` counts as them.
fn quote_kind(c: char) -> Option<bool> {
    match c {
        '"' | '“' | '”' | '„' | '‟' => Some(true),
        '\'' | '‘' | '’' | '‚' | '‛' => Some(false),
        _ => None,
    }
}

/// Tokens of `text[start..]`, one line.
///
/// A quote opens only where a token or a value begins (`don't` stays one word) and is closed by one of its
/// kind before a blank or the end. `\"` and `\\` are escapes in double quotes; outside, `\` before a blank,
/// a quote or itself takes its meaning away.
fn lex(text: &str, start: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = start;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
        } else {
            let token = token(text, at);
            at = token.span.end;
            tokens.push(token);
        }
    }
    tokens
}

fn token(text: &str, start: usize) -> Token {
    let piece = piece(text, start);
    let quoted = piece.quoted;
    let span = Span { start, end: piece.end };
    if quoted {
        return Token { span, text: piece.text, quoted, named: None, unclosed: piece.unclosed };
    }
    let raw = &text[start..];
    let dashes = leading_dashes(raw);
    let name_start = start + dashes;
    let name_len = text[name_start..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .map(char::len_utf8)
        .sum::<usize>();
    let name = &text[name_start..name_start + name_len];
    let begins_as_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let after = &text[name_start + name_len..span.end.max(name_start + name_len)];
    if begins_as_name && after.starts_with('=') {
        let value_start = name_start + name_len + 1;
        let value = self::piece(text, value_start);
        let span = Span { start, end: value.end };
        let named = Named {
            dashed: dashes > 0,
            name: name.to_owned(),
            value_span: Span { start: value_start, end: value.end },
            value: Some(value.text),
        };
        let shown = text[span.start..span.end].to_owned();
        return Token { span, text: shown, quoted: false, named: Some(named), unclosed: value.unclosed };
    }
    let named = (dashes > 0 && begins_as_name && after.is_empty()).then(|| Named {
        dashed: true,
        name: name.to_owned(),
        value: None,
        value_span: span,
    });
    Token { span, text: piece.text, quoted, named, unclosed: piece.unclosed }
}

/// Bytes of `-`, `--`, or what a phone makes of `--`.
fn leading_dashes(raw: &str) -> usize {
    ["--", "—", "–", "-"].iter().find(|d| raw.starts_with(**d)).map_or(0, |d| d.len())
}

struct Piece {
    text: String,
    end: usize,
    quoted: bool,
    unclosed: Option<Span>,
}

/// What stands from `start` to the next blank, or to the end of the quotation that begins there.
fn piece(text: &str, start: usize) -> Piece {
    let mut out = String::new();
    let mut chars = text[start..].char_indices().map(|(i, c)| (start + i, c)).peekable();
    let opening = chars.peek().and_then(|&(at, c)| quote_kind(c).map(|kind| (kind, at, at + c.len_utf8())));
    if let Some((double, open_start, open_end)) = opening {
        chars.next();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|&(_, c)| c);
            if double && c == '\\' && next.is_some_and(|n| n == '\\' || quote_kind(n) == Some(true)) {
                out.extend(chars.next().map(|(_, c)| c));
            } else if quote_kind(c) == Some(double) && next.is_none_or(char::is_whitespace) {
                return Piece { text: out, end: at + c.len_utf8(), quoted: true, unclosed: None };
            } else {
                out.push(c);
            }
        }
        let unclosed = Some(Span { start: open_start, end: open_end });
        return Piece { text: out, end: text.len(), quoted: true, unclosed };
    }
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, c)| c);
        if c.is_whitespace() {
            end = at;
            break;
        }
        let escapes = |n: char| n == '\\' || n.is_whitespace() || quote_kind(n).is_some();
        if c == '\\' && next.is_some_and(escapes) {
            out.extend(chars.next().map(|(_, c)| c));
        } else {
            out.push(c);
        }
    }
    Piece { text: out, end, quoted: false, unclosed: None }
}

/// Free text that is one quotation as a whole, without its quotes; also over several lines.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let piece = piece(text, 0);
    (piece.quoted && piece.unclosed.is_none() && piece.end == text.len()).then_some(piece.text)
}

/// `word` in double quotes, so that it is read back as it is.
pub(super) fn quote(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for c in word.chars() {
        if c == '\\' || quote_kind(c) == Some(true) {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `word` with quotes only if it would be read as something else without.
pub(super) fn quote_if_needed(word: &str) -> String {
    // A backslash at the end would take in the blank that follows.
    let bare = !word.contains('\\') && {
        let mut tokens = lex(word, 0);
        matches!((tokens.pop(), tokens.pop()), (Some(t), None)
            if !t.quoted && t.named.is_none() && t.text == word && t.span.start == 0)
    };
    if bare { word.to_owned() } else { quote(word) }
}

#[cfg(test)]
mod tests {
    use super::super::bind::fixture::commands;
    use super::*;

    fn read(message: &str, room: RoomKind) -> Option<Addressed> {
        addressed(message, "houston", room, commands())
    }

    fn words(found: Option<Addressed>) -> Option<String> {
        match found {
            Some(Addressed::Command(line)) => {
                Some(line.tokens.iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        }
    }

    #[test]
    fn all_forms_of_a_command_are_heard() {
        for message in [
            "!status prod",
            "/status prod",
            "  !status prod\u{200b}",
            "\u{feff}!status\u{a0}prod",
            "@houston status prod",
            "@Houston, status prod",
            "@houston: !status prod",
            "@houston,status prod",
            "@houston `status prod`",
            "`!status prod`",
            "```\n!status prod\n```",
            "\u{201c}!status prod\u{201d}",
            "[ ](https://chat.example.com/channel/ops?msg=abc) !status prod",
        ] {
            for room in [RoomKind::Public, RoomKind::Private, RoomKind::Direct] {
                assert_eq!(words(read(message, room)).as_deref(), Some("status|prod"), "{message}");
            }
        }
        assert_eq!(words(read("Status prod", RoomKind::Direct)).as_deref(), Some("Status|prod"));
        assert_eq!(words(read("@houston", RoomKind::Public)).as_deref(), Some("help"));
    }

    #[test]
    fn talk_in_rooms_is_not_answered() {
        for message in [
            "",
            " ",
            "status prod",
            "!",
            "!!",
            "!?",
            "! status",
            "!= null",
            "!important;",
            "!(a && b)",
            "/",
            "/etc/hosts is full",
            "/shrug",
            "/var/log",
            "//status",
            "> !deploy prod web",
            "> !status",
            "thanks @houston",
            "@houston2 status",
            "@houston.dev status",
            "@houston-eu status",
            "@ status",
            "say `!status` to see",
            "\u{200d}",
            "😀",
            "@bob deploy prod",
        ] {
            assert_eq!(read(message, RoomKind::Public), None, "{message:?}");
        }
    }

    #[test]
    fn words_that_look_like_commands_get_a_hint() {
        let unknown = |m: &str, room| match read(m, room) {
            Some(Addressed::Unknown(unknown)) => unknown,
            other => panic!("{m}: {other:?}"),
        };
        let room = RoomKind::Public;
        assert_eq!(unknown("!deplyo prod", room).suggestion.as_deref(), Some("deploy"));
        assert_eq!(unknown("/deplyo prod", room).suggestion.as_deref(), Some("deploy"));
        assert_eq!(unknown("deplyo prod", RoomKind::Direct).suggestion.as_deref(), Some("deploy"));
        assert!(unknown("!frobnicate", room).hint().contains("`!help` lists"));
    }

    #[test]
    fn what_is_said_to_houston_and_is_no_command_is_a_question() {
        let question = |m: &str, room| match read(m, room) {
            Some(Addressed::Question(text)) => text,
            other => panic!("{m}: {other:?}"),
        };
        assert_eq!(question("@houston why is web slow?", RoomKind::Public), "why is web slow?");
        assert_eq!(question("hello there", RoomKind::Direct), "hello there");
        assert_eq!(question("!!", RoomKind::Direct), "!!");
        let Some(Addressed::Command(line)) = read("@houston deploy prod web?", RoomKind::Public) else {
            panic!("begins as a command")
        };
        assert!(line.reads_like_question());
        let Some(Addressed::Command(line)) = read("!deploy prod web?", RoomKind::Public) else {
            panic!("is a command")
        };
        assert!(!line.reads_like_question());
    }

    #[test]
    fn tokens_know_quotes_escapes_names_and_places() {
        let line = command_line(
            "!x don't \"a \\\"b\\\"\" 'it's in' a\\ b --n=\u{201c}é é\u{201d} k=v —dry-run -5 \"k=v\"",
        );
        let texts: Vec<&str> = line.tokens.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "x",
                "don't",
                "a \"b\"",
                "it's in",
                "a b",
                "--n=\u{201c}é é\u{201d}",
                "k=v",
                "—dry-run",
                "-5",
                "k=v"
            ]
        );
        let named: Vec<Option<(&str, Option<&str>)>> = line.tokens[5..]
            .iter()
            .map(|t| t.named.as_ref().map(|n| (n.name.as_str(), n.value.as_deref())))
            .collect();
        assert_eq!(
            named,
            [Some(("n", Some("é é"))), Some(("k", Some("v"))), Some(("dry-run", None)), None, None]
        );
        for token in &line.tokens {
            assert!(line.text.get(token.span.start..token.span.end).is_some_and(|t| !t.is_empty()));
        }
    }

    #[test]
    fn quoting_is_undone_by_reading() {
        for word in [
            "web",
            "two words",
            "",
            "don't",
            "\"",
            "\\",
            "a\\ b",
            "--x",
            "k=v",
            "\u{201c}q\u{201d}",
            "-h",
            "'a",
        ] {
            let line = command_line(&format!("x {}", quote_if_needed(word)));
            assert_eq!(line.tokens[1].text, word, "{word:?}");
            assert!(line.tokens.len() == 2 && line.tokens[1].named.is_none(), "{word:?}");
        }
        assert_eq!(quote_if_needed("don't"), "don't");
    }
}
