//! Markers: for which Python and which platform a requirement holds (PEP 508).
//!
//! Own code: the crate that reads them is built on one whose licence does not fit here. Pure;
//! bounded in depth. A marker that is not understood is an error, never a guess.

use std::collections::BTreeSet;

use pep440_rs::{Version, VersionSpecifier};

use super::project::normal;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// What markers ask about.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    /// The whole version of Python, e.g. `3.11.2`.
    pub(super) python: Version,
    /// The machine, as `uname -m` says.
    pub(super) machine: &'static str,
}

/// A condition of a requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Compare {
        left: Operand,
        operator: Operator,
        right: Operand,
    },
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Variable(Variable),
    Text(String),
}

/// What a marker may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    PythonVersion,
    PythonFullVersion,
    OsName,
    SysPlatform,
    PlatformRelease,
    PlatformSystem,
    PlatformVersion,
    PlatformMachine,
    Implementation,
    ImplementationName,
    ImplementationVersion,
    Extra,
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    Compatible,
    Identical,
    In,
    NotIn,
}

/// Names of variables; those with dots are of before PEP 508.
const VARIABLES: [(&str, Variable); 18] = [
    ("python_version", Variable::PythonVersion),
    ("python_full_version", Variable::PythonFullVersion),
    ("os_name", Variable::OsName),
    ("os.name", Variable::OsName),
    ("sys_platform", Variable::SysPlatform),
    ("sys.platform", Variable::SysPlatform),
    ("platform_release", Variable::PlatformRelease),
    ("platform_system", Variable::PlatformSystem),
    ("platform_version", Variable::PlatformVersion),
    ("platform.version", Variable::PlatformVersion),
    ("platform_machine", Variable::PlatformMachine),
    ("platform.machine", Variable::PlatformMachine),
    ("platform_python_implementation", Variable::Implementation),
    ("platform.python_implementation", Variable::Implementation),
    ("python_implementation", Variable::Implementation),
    ("implementation_name", Variable::ImplementationName),
    ("implementation_version", Variable::ImplementationVersion),
    ("extra", Variable::Extra),
];

/// Operators, those that begin like another one before it.
const OPERATORS: [(&str, Operator); 8] = [
    ("===", Operator::Identical),
    ("==", Operator::Equal),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("~=", Operator::Compatible),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Environment {
    /// Whether a marker holds, when these extras of the one who requires are wanted.
    pub(super) fn holds(&self, marker: &Marker, extras: &BTreeSet<String>) -> bool {
        match marker {
            Marker::And(a, b) => self.holds(a, extras) && self.holds(b, extras),
            Marker::Or(a, b) => self.holds(a, extras) || self.holds(b, extras),
            Marker::Compare {
                left,
                operator,
                right,
            } => match (left, right) {
                (Operand::Variable(Variable::Extra), Operand::Text(name))
                | (Operand::Text(name), Operand::Variable(Variable::Extra)) => {
                    let wanted = extras.contains(&normal(name));
                    wanted == (*operator != Operator::NotEqual)
                }
                _ => compare(&self.value(left), *operator, &self.value(right)),
            },
        }
    }

    fn value(&self, operand: &Operand) -> String {
        let variable = match operand {
            Operand::Text(text) => return text.clone(),
            Operand::Variable(variable) => variable,
        };
        match variable {
            Variable::PythonVersion => {
                let mut release = self.python.release().iter().chain(&[0, 0]);
                let mut next = || release.next().copied().unwrap_or(0);
                format!("{}.{}", next(), next())
            }
            Variable::PythonFullVersion | Variable::ImplementationVersion => {
                self.python.to_string()
            }
            Variable::OsName => "posix".to_owned(),
            Variable::SysPlatform => "linux".to_owned(),
            Variable::PlatformSystem => "Linux".to_owned(),
            Variable::PlatformMachine => self.machine.to_owned(),
            Variable::Implementation => "CPython".to_owned(),
            Variable::ImplementationName => "cpython".to_owned(),
            // Of the machine that it will run on nothing is known.
            Variable::PlatformRelease | Variable::PlatformVersion | Variable::Extra => {
                String::new()
            }
        }
    }
}

/// Compares as versions where both sides are, else as text.
fn compare(left: &str, operator: Operator, right: &str) -> bool {
    let symbol = OPERATORS.iter().find(|(_, known)| *known == operator);
    if let Some((symbol, _)) = symbol {
        let specifier: Result<VersionSpecifier, _> = format!("{symbol}{right}").parse();
        let version: Result<Version, _> = left.parse();
        if let (Ok(specifier), Ok(version)) = (specifier, version) {
            return specifier.contains(&version);
        }
    }
    match operator {
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Equal | Operator::Identical => left == right,
        Operator::NotEqual => left != right,
        Operator::GreaterOrEqual => left >= right,
        Operator::Greater => left > right,
        Operator::Compatible => false,
        Operator::In => right.contains(left),
        Operator::NotIn => !right.contains(left),
    }
}

/// Reads a marker.
pub(super) fn parse(text: &str) -> Result<Marker, String> {
    let mut reader = Reader { rest: text };
    let marker = reader.either(0)?;
    match reader.rest.trim() {
        "" => Ok(marker),
        rest => Err(format!("its condition has `{}` at the end", shown(rest))),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn either(&mut self, depth: usize) -> Result<Marker, String> {
        let mut left = self.both(depth)?;
        while self.word("or") {
            left = Marker::Or(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Marker, String> {
        let mut left = self.one(depth)?;
        while self.word("and") {
            left = Marker::And(Box::new(left), Box::new(self.one(depth)?));
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Marker, String> {
        if depth > MAX_DEPTH {
            return Err("its condition is nested too deeply".to_owned());
        }
        if self.symbol("(") {
            let inside = self.either(depth + 1)?;
            if !self.symbol(")") {
                return Err("its condition lacks a `)`".to_owned());
            }
            return Ok(inside);
        }
        let left = self.operand()?;
        let operator = self.operator()?;
        let right = self.operand()?;
        Ok(Marker::Compare {
            left,
            operator,
            right,
        })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        for quote in ['\'', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let Some((text, rest)) = rest.split_once(quote) else {
                    return Err("its condition has a text without an end".to_owned());
                };
                self.rest = rest;
                return Ok(Operand::Text(text.to_owned()));
            }
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let known = VARIABLES.iter().find(|(known, _)| *known == name);
        let Some((_, variable)) = known else {
            return Err(format!("its condition asks for `{}`", shown(self.rest)));
        };
        self.rest = rest;
        Ok(Operand::Variable(*variable))
    }

    fn operator(&mut self) -> Result<Operator, String> {
        for (symbol, operator) in OPERATORS {
            if self.symbol(symbol) {
                return Ok(operator);
            }
        }
        if self.word("in") {
            return Ok(Operator::In);
        }
        if self.word("not") && self.word("in") {
            return Ok(Operator::NotIn);
        }
        Err(format!("its condition compares by `{}`", shown(self.rest)))
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(symbol);
        rest.inspect(|rest| self.rest = rest).is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        let ends = |rest: &&str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        rest.filter(ends).inspect(|rest| self.rest = rest).is_some()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(text: &str, extras: &[&str]) -> bool {
        let environment = Environment {
            python: "3.11.2".parse().expect("a version"),
            machine: "x86_64",
        };
        let extras = extras.iter().map(|extra| (*extra).to_owned()).collect();
        environment.holds(&parse(text).expect(text), &extras)
    }

    #[test]
    fn markers_ask_for_the_python_that_is_extended() {
        for (text, expected) in [
            ("python_version >= '3.9'", true),
            ("python_version < \"3.11\"", false),
            ("python_version=='3.11'", true),
            ("python_version in '3.10 3.11'", true),
            ("python_version not in '3.10 3.11'", false),
            ("'3.9' <= python_version", true),
            ("python_full_version >= '3.11.0b1'", true),
            ("python_full_version < '3.11.2'", false),
            ("python_version ~= '3.8'", true),
            ("python_version == '3.*'", true),
            ("sys_platform == 'win32'", false),
            ("sys_platform != 'win32' and os_name == 'posix'", true),
            (
                "platform_system == 'Windows' or platform_machine == 'x86_64'",
                true,
            ),
            (
                "os_name == 'nt' or os_name == 'java' and python_version > '3'",
                false,
            ),
            (
                "(os_name == 'posix' or os_name == 'nt') and python_version > '4'",
                false,
            ),
            ("platform_python_implementation != 'PyPy'", true),
            ("implementation_name == 'cpython'", true),
            ("platform_release >= '20'", false),
        ] {
            assert_eq!(holds(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn an_extra_holds_when_it_is_wanted() {
        assert!(holds("extra == 'Socks_5'", &["socks-5"]));
        assert!(!holds("extra == 'socks'", &[]));
        assert!(holds("extra != 'socks'", &[]));
        assert!(holds(
            "python_version > '3' and extra == \"b\"",
            &["a", "b"]
        ));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "python_version",
            "python_version >= ",
            "python_version >= '3",
            "(os_name == 'posix'",
            "os_name == 'posix' os_name",
            "moon == 'full'",
            "os_name is 'posix'",
            &"(".repeat(1000),
        ] {
            parse(text).expect_err(text);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            drop(parse(&text));
        }
    }
}
