//! The values of a policy file with their places, whether it is written in TOML or in JSON.

use std::{collections::HashSet, ops::Range};

use jsonc_parser::{CollectOptions, ParseOptions, ast, common::Ranged as _, parse_to_ast};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Mistake, diagnostic::Finding, section::Report};

/// More syntax errors than this are consequences of the first ones.
const MAX_SYNTAX_ERRORS: usize = 16;

/// A name that the file gives to something, its place, and what it names.
pub(super) type Named<'t> = (&'t str, Range<usize>, Node<'t>);

/// A whole file, parsed.
pub(super) enum Tree<'t> {
    /// Of a TOML file.
    Toml(Spanned<DeValue<'t>>),
    /// Of a JSON file.
    Json(ast::Value<'t>),
}

impl<'t> Tree<'t> {
    /// The values of a TOML file; `None` once what is wrong with it is recorded.
    pub(super) fn of_toml(text: &'t str, report: &mut Report) -> Option<Self> {
        let (table, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            report.errors.extend(syntax.iter().take(MAX_SYNTAX_ERRORS).map(not_toml));
            return None;
        }
        Some(Self::Toml(Spanned::new(table.span(), DeValue::Table(table.into_inner()))))
    }

    /// The values of a JSON file (RFC 8259, nothing beyond it); `None` once what is wrong is recorded.
    pub(super) fn of_json(text: &'t str, report: &mut Report) -> Option<Self> {
        let value = match parse_to_ast(text, &CollectOptions::default(), &strict()) {
            Ok(result) => result.value,
            Err(error) => {
                let range = error.range();
                let words = error.kind().to_string().to_lowercase();
                report.error(range.start..range.end, Mistake::new(format!("this is not JSON: {words}")));
                return None;
            }
        };
        let Some(value) = value else {
            report.error(0..text.len(), Mistake::new("this is not JSON: it has no value"));
            return None;
        };
        let before = report.errors.len();
        refuse_repeated_names(&value, report);
        (report.errors.len() == before).then_some(Self::Json(value))
    }

    /// The outermost value.
    pub(super) fn root(&'t self) -> Node<'t> {
        match self {
            Self::Toml(value) => Node::Toml(value),
            Self::Json(value) => Node::Json(value),
        }
    }
}

/// JSON without the extensions that the parser knows.
const fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn not_toml(error: &toml::de::Error) -> Finding {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let mistake = Mistake::new(format!("this is not TOML: {message}"));
    let mistake = if message.contains("duplicate key") {
        mistake.help("give each name once; put what belongs together under one heading")
    } else {
        mistake
    };
    Finding::new(error.span().unwrap_or(0..0), mistake)
}

/// Records each name that an object gives twice: of the two, JSON parsers take either.
fn refuse_repeated_names(value: &ast::Value<'_>, report: &mut Report) {
    match value {
        ast::Value::Object(object) => {
            let mut seen = HashSet::new();
            for property in &object.properties {
                if !seen.insert(property.name.as_str()) {
                    let range = property.name.range();
                    let mistake =
                        Mistake::new(format!("the name `{}` is given twice", property.name.as_str()));
                    report.error(range.start..range.end, mistake.help("give each name once"));
                }
                refuse_repeated_names(&property.value, report);
            }
        }
        ast::Value::Array(array) => {
            array.elements.iter().for_each(|item| refuse_repeated_names(item, report))
        }
        _ => {}
    }
}

/// A value and its place.
#[derive(Clone, Copy)]
pub(super) enum Node<'t> {
    /// In a TOML file.
    Toml(&'t Spanned<DeValue<'t>>),
    /// In a JSON file.
    Json(&'t ast::Value<'t>),
}

/// What a value is.
pub(super) enum Kind<'t> {
    /// Text.
    String(&'t str),
    /// A whole number, as long as it fits.
    Integer(Option<i64>),
    /// A number with a fraction.
    Fraction,
    /// A truth value.
    Boolean(bool),
    /// A date or a time.
    Date,
    /// JSON's `null`.
    Null,
    /// A list.
    List,
    /// A table, which JSON calls an object.
    Table,
}

impl Kind<'_> {
    /// What messages call it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Fraction => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
            Self::Null => "null",
            Self::List => "a list",
            Self::Table => "a table",
        }
    }
}

impl<'t> Node<'t> {
    /// The bytes of the file that it takes.
    pub(super) fn span(self) -> Range<usize> {
        match self {
            Self::Toml(value) => value.span(),
            Self::Json(value) => {
                let range = value.range();
                range.start..range.end
            }
        }
    }

    /// What it is.
    pub(super) fn kind(self) -> Kind<'t> {
        match self {
            Self::Toml(value) => match value.get_ref() {
                DeValue::String(text) => Kind::String(text),
                DeValue::Integer(number) => {
                    Kind::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
                }
                DeValue::Float(_) => Kind::Fraction,
                DeValue::Boolean(value) => Kind::Boolean(*value),
                DeValue::Datetime(_) => Kind::Date,
                DeValue::Array(_) => Kind::List,
                DeValue::Table(_) => Kind::Table,
            },
            Self::Json(value) => match value {
                ast::Value::StringLit(text) => Kind::String(&text.value),
                ast::Value::NumberLit(number) if number.value.contains(['.', 'e', 'E']) => Kind::Fraction,
                ast::Value::NumberLit(number) => Kind::Integer(number.value.parse().ok()),
                ast::Value::BooleanLit(literal) => Kind::Boolean(literal.value),
                ast::Value::NullKeyword(_) => Kind::Null,
                ast::Value::Array(_) => Kind::List,
                ast::Value::Object(_) => Kind::Table,
            },
        }
    }

    /// Its items, if it is a list.
    pub(super) fn items(self) -> Option<Vec<Self>> {
        match self {
            Self::Toml(value) => Some(value.get_ref().as_array()?.iter().map(Self::Toml).collect()),
            Self::Json(value) => Some(value.as_array()?.elements.iter().map(Self::Json).collect()),
        }
    }

    /// What it names, if it is a table.
    pub(super) fn entries(self) -> Option<Vec<Named<'t>>> {
        match self {
            Self::Toml(value) => {
                let entry = |(name, value): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
                    let text: &'t std::borrow::Cow<'t, str> = name.get_ref();
                    (text.as_ref(), name.span(), Self::Toml(value))
                };
                Some(value.get_ref().as_table()?.iter().map(entry).collect())
            }
            Self::Json(value) => {
                let entry = |property: &'t ast::ObjectProp<'t>| {
                    let range = property.name.range();
                    (property.name.as_str(), range.start..range.end, Self::Json(&property.value))
                };
                Some(value.as_object()?.properties.iter().map(entry).collect())
            }
        }
    }
}
