//! Conditions on a role assignment (azure.md §5.8): the part of the language that delegating role assignments needs.
//!
//! Whatever this does not understand refuses.

use uuid::Uuid;

/// A condition that was understood.
#[derive(Clone, Debug)]
pub(super) struct Condition(Expression);

#[derive(Clone, Debug)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    /// The action is one of these patterns.
    ActionMatches(String),
    Compare(Comparison),
}

#[derive(Clone, Debug)]
struct Comparison {
    source: Source,
    attribute: Attribute,
    /// Whether no value of the set may be equal, instead of one.
    negated: bool,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Request,
    Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    RoleDefinitionId,
    PrincipalType,
    PrincipalId,
}

/// The role assignment that a call is about, as far as conditions can see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) role: Option<Uuid>,
    pub(super) principal_type: Option<String>,
    pub(super) principal: Option<Uuid>,
}

/// What a condition judges: the assignment asked for on a write, the present one on a delete.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    pub(super) request: Option<Attributes>,
    pub(super) resource: Option<Attributes>,
}

impl Condition {
    /// `None` where the text is not of the known language.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let expression = reader.any_of()?;
        reader.rest.trim().is_empty().then_some(Self(expression))
    }

    pub(super) fn allows(&self, action: &str, judged: &Judged) -> bool {
        self.0.holds(action, judged)
    }
}

impl Expression {
    fn holds(&self, action: &str, judged: &Judged) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(action, judged)),
            Self::And(parts) => parts.iter().all(|part| part.holds(action, judged)),
            Self::Not(part) => !part.holds(action, judged),
            Self::ActionMatches(pattern) => super::roles::matches(pattern, action),
            Self::Compare(comparison) => comparison.holds(judged),
        }
    }
}

impl Comparison {
    /// An attribute that is not there compares to nothing.
    fn holds(&self, judged: &Judged) -> bool {
        let attributes = match self.source {
            Source::Request => &judged.request,
            Source::Resource => &judged.resource,
        };
        let Some(attributes) = attributes else { return false };
        let value = match self.attribute {
            Attribute::RoleDefinitionId => attributes.role.map(|id| id.to_string()),
            Attribute::PrincipalId => attributes.principal.map(|id| id.to_string()),
            Attribute::PrincipalType => attributes.principal_type.clone(),
        };
        let Some(value) = value else { return false };
        self.values.iter().any(|one| one.eq_ignore_ascii_case(&value)) != self.negated
    }
}

/// Reads an expression from the front of `rest`.
struct Reader<'text> {
    rest: &'text str,
}

impl<'text> Reader<'text> {
    fn any_of(&mut self) -> Option<Expression> {
        let mut parts = vec![self.all_of()?];
        while self.takes_word("OR") || self.takes("||") {
            parts.push(self.all_of()?);
        }
        Some(Expression::Or(parts))
    }

    fn all_of(&mut self) -> Option<Expression> {
        let mut parts = vec![self.one()?];
        while self.takes_word("AND") || self.takes("&&") {
            parts.push(self.one()?);
        }
        Some(Expression::And(parts))
    }

    fn one(&mut self) -> Option<Expression> {
        if self.takes("!") || self.takes_word("NOT") {
            return Some(Expression::Not(Box::new(self.one()?)));
        }
        if self.takes("(") {
            let inner = self.any_of()?;
            return self.takes(")").then_some(inner);
        }
        if self.takes_word("ActionMatches") {
            let [pattern] = <[String; 1]>::try_from(self.set()?).ok()?;
            return Some(Expression::ActionMatches(pattern));
        }
        self.comparison().map(Expression::Compare)
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let source = if self.takes("@Request") {
            Source::Request
        } else if self.takes("@Resource") {
            Source::Resource
        } else {
            return None;
        };
        let name = self.between('[', ']')?;
        let (resource, attribute) = name.split_once(':')?;
        if !resource.eq_ignore_ascii_case("Microsoft.Authorization/roleAssignments") {
            return None;
        }
        let attribute = match attribute.to_ascii_lowercase().as_str() {
            "roledefinitionid" => Attribute::RoleDefinitionId,
            "principaltype" => Attribute::PrincipalType,
            "principalid" => Attribute::PrincipalId,
            _ => return None,
        };
        let operator = self.word()?;
        let guid = attribute != Attribute::PrincipalType;
        let negated = match operator {
            "ForAnyOfAnyValues:GuidEquals" | "GuidEquals" if guid => false,
            "ForAnyOfAllValues:GuidNotEquals" | "GuidNotEquals" if guid => true,
            "ForAnyOfAnyValues:StringEqualsIgnoreCase" | "StringEqualsIgnoreCase" if !guid => false,
            "ForAnyOfAllValues:StringNotEqualsIgnoreCase" | "StringNotEqualsIgnoreCase"
                if !guid =>
            {
                true
            }
            _ => return None,
        };
        let values = self.set()?;
        let known = !guid || values.iter().all(|value| Uuid::parse_str(value).is_ok());
        known.then_some(Comparison { source, attribute, negated, values })
    }

    fn set(&mut self) -> Option<Vec<String>> {
        let inner = self.between('{', '}')?;
        let values = inner.split(',').map(|value| value.trim().trim_matches('\'').to_owned());
        Some(values.filter(|value| !value.is_empty()).collect())
    }

    fn between(&mut self, open: char, close: char) -> Option<&'text str> {
        let (inner, rest) = self.rest.trim_start().strip_prefix(open)?.split_once(close)?;
        self.rest = rest;
        Some(inner)
    }

    fn word(&mut self) -> Option<&'text str> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != ':').unwrap_or(rest.len());
        self.rest = &rest[end..];
        (end > 0).then(|| &rest[..end])
    }

    fn takes(&mut self, token: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        let Some((head, tail)) = rest.split_at_checked(word.len()) else { return false };
        let ends = !tail.starts_with(|c: char| c.is_ascii_alphanumeric());
        let found = head.eq_ignore_ascii_case(word) && ends;
        if found {
            self.rest = tail;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "Microsoft.Authorization/roleAssignments/write";
    const DELETE: &str = "Microsoft.Authorization/roleAssignments/delete";
    const ACR_PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
    const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
    const OURSELVES: &str = "99999999-0000-4000-8000-000000000001";
    const ANOTHER: &str = "25cc773c-7f05-40fc-a104-32d2300754ad";

    fn documented() -> String {
        let half = |source: &str, action: &str| {
            let of = format!("@{source}[Microsoft.Authorization/roleAssignments:");
            format!(
                "((!(ActionMatches{{'{action}'}})) OR ({of}RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {{{ACR_PULL}}} AND {of}PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {{'ServicePrincipal'}} AND {of}PrincipalId] ForAnyOfAllValues:GuidNotEquals {{{OURSELVES}}}))"
            )
        };
        format!("{} AND {}", half("Request", WRITE), half("Resource", DELETE))
    }

    #[test]
    fn the_documented_condition_allows_its_roles_types_and_principals_and_nothing_else() {
        let condition = Condition::parse(&documented()).unwrap();
        let check = |action: &str, role: &str, kind: Option<&str>, principal: &str, expected| {
            let attributes = Attributes {
                role: role.parse().ok(),
                principal_type: kind.map(str::to_owned),
                principal: principal.parse().ok(),
            };
            let judged = if action == DELETE {
                Judged { request: None, resource: Some(attributes) }
            } else {
                Judged { request: Some(attributes), resource: None }
            };
            assert_eq!(
                condition.allows(action, &judged),
                expected,
                "{action} {role} {kind:?} {principal}"
            );
        };
        for action in [WRITE, DELETE] {
            check(action, ACR_PULL, Some("serviceprincipal"), ANOTHER, true);
            check(action, OWNER, Some("ServicePrincipal"), ANOTHER, false);
            check(action, ACR_PULL, Some("User"), ANOTHER, false);
            check(action, ACR_PULL, None, ANOTHER, false);
            check(action, ACR_PULL, Some("ServicePrincipal"), OURSELVES, false);
        }
        check("Microsoft.Authorization/roleAssignments/read", OWNER, None, ANOTHER, true);
    }

    #[test]
    fn what_is_not_understood_is_no_condition() {
        for text in [
            "",
            "true",
            "(",
            "@Principal[Microsoft.Directory/x:y] StringEquals 'z'",
            "@Request[Microsoft.Storage/x:RoleDefinitionId] GuidEquals {7f951dda-4ed3-4680-a7ca-43fe172d538d}",
            "@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] GuidEquals {nothing}",
            "(!(ActionMatches{'a'})) trailing",
        ] {
            assert!(Condition::parse(text).is_none(), "{text}");
        }
    }
}
