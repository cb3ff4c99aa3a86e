//! As much of the GraphQL language as bulk reads need: one query, variables, arguments, aliases; no fragments.

use serde_json::{Map, Value};

/// One field that is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    alias: Option<String>,
    pub(super) arguments: Vec<(String, Argument)>,
    pub(super) selection: Vec<Field>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Argument {
    Variable(String),
    List(Vec<Argument>),
    Literal(Value),
}

/// A query with what its variables are where nobody gives them.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    pub(super) defaults: Map<String, Value>,
    pub(super) selection: Vec<Field>,
}

impl Field {
    /// What the answer calls it.
    pub(super) fn key(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Sign(char),
}

pub(super) fn parse(text: &str) -> Result<Query, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut defaults = Map::new();
    if let Some(Token::Name(operation)) = parser.peek().cloned() {
        if operation != "query" {
            return Err(format!("only queries are understood, not `{operation}`"));
        }
        parser.at += 1;
        if matches!(parser.peek(), Some(Token::Name(_))) {
            parser.at += 1;
        }
        if parser.takes('(') {
            defaults = parser.variables()?;
        }
    }
    let selection = parser.selection()?;
    match parser.peek() {
        None => Ok(Query { defaults, selection }),
        Some(token) => Err(format!("nothing may follow the query, but {token:?} does")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    /// `$after: String, $first: Int = 100)`
    fn variables(&mut self) -> Result<Map<String, Value>, String> {
        let mut defaults = Map::new();
        while !self.takes(')') {
            self.expect('$')?;
            let name = self.name()?;
            self.expect(':')?;
            self.skip_type()?;
            if self.takes('=') {
                match self.argument()? {
                    Argument::Literal(value) => defaults.insert(name, value),
                    Argument::Variable(_) | Argument::List(_) => {
                        return Err(format!("the default of ${name} is no plain value"));
                    }
                };
            }
        }
        Ok(defaults)
    }

    fn skip_type(&mut self) -> Result<(), String> {
        if self.takes('[') {
            self.skip_type()?;
            self.expect(']')?;
        } else {
            self.name()?;
        }
        self.takes('!');
        Ok(())
    }

    fn selection(&mut self) -> Result<Vec<Field>, String> {
        self.expect('{')?;
        let mut fields = Vec::new();
        while !self.takes('}') {
            fields.push(self.field()?);
        }
        if fields.is_empty() { Err("a selection is empty".to_owned()) } else { Ok(fields) }
    }

    fn field(&mut self) -> Result<Field, String> {
        let first = self.name()?;
        let (alias, name) =
            if self.takes(':') { (Some(first), self.name()?) } else { (None, first) };
        let mut arguments = Vec::new();
        if self.takes('(') {
            while !self.takes(')') {
                let name = self.name()?;
                self.expect(':')?;
                arguments.push((name, self.argument()?));
            }
        }
        let nested = self.peek() == Some(&Token::Sign('{'));
        let selection = if nested { self.selection()? } else { Vec::new() };
        Ok(Field { name, alias, arguments, selection })
    }

    fn argument(&mut self) -> Result<Argument, String> {
        if self.takes('$') {
            return Ok(Argument::Variable(self.name()?));
        }
        if self.takes('[') {
            let mut values = Vec::new();
            while !self.takes(']') {
                values.push(self.argument()?);
            }
            return Ok(Argument::List(values));
        }
        let token = self.next()?;
        Ok(Argument::Literal(match token {
            Token::Text(text) => Value::String(text),
            Token::Number(number) => Value::from(number),
            Token::Name(word) => match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => Value::String(word),
            },
            Token::Sign(sign) => return Err(format!("`{sign}` is no value")),
        }))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.peek().cloned().ok_or("the query ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn takes(&mut self, sign: char) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            found @ (Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_)) => {
                Err(format!("`{sign}` was expected, not {found:?}"))
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            found @ (Token::Text(_) | Token::Number(_) | Token::Sign(_)) => {
                Err(format!("a name was expected, not {found:?}"))
            }
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first == ',' || first == '\u{feff}' {
            rest = &rest[first.len_utf8()..];
        } else if first == '#' {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if first == '"' {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = values.next().and_then(Result::ok).ok_or("a string is broken")?;
            rest = &rest[values.byte_offset()..];
            tokens.push(Token::Text(text));
        } else if first == '_' || first.is_ascii_alphabetic() {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Name(name.to_owned()));
            rest = after;
        } else if first == '-' || first.is_ascii_digit() {
            let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit());
            let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
            let number = number.parse().map_err(|_| format!("`{number}` is no integer"))?;
            tokens.push(Token::Number(number));
            rest = after;
        } else if "{}()[]:$=!".contains(first) {
            tokens.push(Token::Sign(first));
            rest = &rest[1..];
        } else {
            return Err(format!("`{first}` is not understood here"));
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn check(text: &str, fine: bool) {
        let parsed = parse(text);
        assert_eq!(parsed.is_ok(), fine, "{text}: {parsed:?}");
    }

    #[test]
    fn queries_are_read_and_nothing_else() {
        check("{ runners { nodes { id } } }", true);
        check("query Q($a: [String!]! = null, $n: Int = 5) { runners(first: $n) { count } }", true);
        check(
            "{ mine: runners(tagList: [\"a\", \"b{\"], type: GROUP_TYPE) { count } # why\n }",
            true,
        );
        check("mutation { runnerDelete { errors } }", false);
        check("{ runners { ...fields } }", false);
        check("{ runners { } }", false);
        check("{ runners { id }", false);
        check("{ runners { id } } }", false);
        check("{ runners(search: \"open) { id } }", false);
        check("", false);
    }
}
