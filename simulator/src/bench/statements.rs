//! The service's own statements, out of the committed metadata of its queries.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A statement and the Postgres types of its parameters.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    query: String,
    types: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    query: String,
    describe: Describe,
}

#[derive(Deserialize)]
struct Describe {
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Left")]
    types: Vec<String>,
}

/// What a parameter is replaced by: its type, which must be the statement's, and an expression.
pub type Argument = (&'static str, String);

impl Statement {
    /// The statement of this name: its text begins with a comment that says so.
    pub fn find(checkout: &Path, name: &'static str) -> Result<Self> {
        let folder = checkout.join(".sqlx");
        let marker = format!("/* relaytrace: {name} */");
        let listing = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut found = None;
        for entry in listing {
            let text = fs::read_to_string(entry?.path())?;
            if !text.contains(&marker) {
                continue;
            }
            let metadata: Metadata = serde_json::from_str(&text).context("the metadata of a query cannot be read")?;
            ensure!(found.is_none(), "{} holds two statements `{name}`: prepare it anew", folder.display());
            let types = metadata.describe.parameters.types.iter().map(|name| postgres_type(name)).collect();
            found = Some(Self { name, query: metadata.query, types });
        }
        let found = found.with_context(|| format!("{} holds no statement `{name}`", folder.display()))?;
        if let Some(name) = pgbench_variable(&found.query) {
            bail!("pgbench would take `:{name}` in the statement `{}` for a variable", found.name);
        }
        Ok(found)
    }

    /// The statement with expressions in the place of its parameters.
    pub fn with(&self, arguments: &[Argument]) -> Result<String> {
        let types: Vec<_> = arguments.iter().map(|(kind, _)| *kind).collect();
        let (name, expected) = (self.name, &self.types);
        ensure!(
            *expected == types,
            "the parameters of the statement `{name}` are {expected:?}, and the simulator knows {types:?}"
        );
        let expressions: Vec<_> =
            arguments.iter().map(|(kind, expression)| format!("(({expression})::{kind})")).collect();
        substitute(&self.query, &expressions)
    }
}

/// `uuid[]` of `UuidArray`.
fn postgres_type(name: &str) -> String {
    match name.strip_suffix("Array") {
        Some(element) => format!("{}[]", element.to_lowercase()),
        None => name.to_lowercase(),
    }
}

/// Replaces `$1` and so on, but not in comments and between quotes.
fn substitute(query: &str, expressions: &[String]) -> Result<String> {
    let mut replaced = String::with_capacity(query.len() * 2);
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let is_parameter = first == '$' && rest[1..].starts_with(|next: char| next.is_ascii_digit());
        let length = match first {
            '\'' | '"' => quoted(rest, first),
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ if is_parameter => rest[1..].find(|next: char| !next.is_ascii_digit()).map_or(rest.len(), |end| end + 1),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if is_parameter {
            let number: usize = token[1..].parse()?;
            let expression = number.checked_sub(1).and_then(|index| expressions.get(index));
            replaced.push_str(expression.with_context(|| format!("a statement has no parameter {token}"))?);
        } else {
            replaced.push_str(token);
        }
        rest = after;
    }
    Ok(replaced)
}

/// Length of a quoted text, quotes included. A doubled quote within is two of them, one after the other.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

/// Something that pgbench would replace, also between quotes: a colon and a name.
fn pgbench_variable(query: &str) -> Option<&str> {
    let mut before = ' ';
    for (at, character) in query.char_indices() {
        if before == ':' && (character.is_ascii_alphanumeric() || character == '_') && !query[..at].ends_with("::") {
            let name = &query[at..];
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            return Some(&name[..end]);
        }
        before = character;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_replaced_where_they_are_parameters() {
        let expressions: Vec<_> = (1..=12).map(|number| format!("<{number}>")).collect();
        let replaced = |query: &str| substitute(query, &expressions).unwrap();
        assert_eq!(replaced("SELECT $1, $12, $1::text[] -- the first one's $2\n, $2"), {
            "SELECT <1>, <12>, <1>::text[] -- the first one's $2\n, <2>"
        });
        assert_eq!(replaced("/* $1 */ '$1 it''s $2' || \"a$3\" || $3"), "/* $1 */ '$1 it''s $2' || \"a$3\" || <3>");
        assert_eq!(replaced("'ü$1' || $1 || 'open"), "'ü$1' || <1> || 'open");
        assert_eq!(replaced("$$ $1"), "$$ <1>");
        assert!(substitute("$13", &expressions).is_err());
        assert!(substitute("$0", &expressions).is_err());
    }

    #[test]
    fn types_must_be_those_of_the_statement() {
        let types = vec![postgres_type("UuidArray"), postgres_type("Timestamptz")];
        let statement = Statement { name: "test", query: "SELECT $2, $1".to_owned(), types };
        let replaced = statement.with(&[("uuid[]", "ARRAY[:id]".to_owned()), ("timestamptz", ":at".to_owned())]);
        assert_eq!(replaced.unwrap(), "SELECT ((:at)::timestamptz), ((ARRAY[:id])::uuid[])");
        assert!(statement.with(&[("uuid[]", String::new())]).is_err());
        assert!(statement.with(&[("uuid[]", String::new()), ("text", String::new())]).is_err());
    }

    #[test]
    fn what_pgbench_would_take_for_a_variable_is_found() {
        assert_eq!(pgbench_variable("a::text '{\"kind\":\"' \"id: Id\" /* relaytrace: x */ 'v1:'"), None);
        assert_eq!(pgbench_variable("to_char(at, 'HH24:MI')"), Some("MI"));
        assert_eq!(pgbench_variable("entries[1:2]"), Some("2"));
    }
}
