//! The form of a sink's table of errors: one line is one arm of its `match` and one row of
//! docs/errors.md, so that code and document cannot differ. It decides nothing itself.

use super::ErrorClass;

/// One row of a table of errors.
#[derive(Clone, Debug)]
pub struct ErrorRow {
    /// What is done about it.
    pub class: ErrorClass,
    /// What happened, for people.
    pub what: &'static str,
    /// The codes, by the names of the library and, where they have any, their numbers.
    pub codes: Vec<String>,
    /// The tests that hold the row.
    pub tests: &'static [&'static str],
}

/// Makes `class_of` (codes that no row names are transient: whatever a later version invents) and
/// `rows` from lines of class, words, codes and tests. `$name` turns a code into its name.
macro_rules! error_table {
    ($codes:ident, $name:expr;
     $($class:ident $what:literal [$($code:ident)+] held by [$($test:ident)+];)+) => {
        /// The class of an error code.
        pub(super) const fn class_of(code: $codes) -> ErrorClass {
            match code {
                $($($codes::$code)|+ => ErrorClass::$class,)+
                _ => ErrorClass::Transient,
            }
        }

        /// The same as rows, in the order of the document.
        pub(super) fn rows() -> Vec<ErrorRow> {
            let name = $name;
            vec![$(ErrorRow {
                class: ErrorClass::$class,
                what: $what,
                codes: vec![$(name($codes::$code, stringify!($code))),+],
                tests: &[$(stringify!($test)),+],
            }),+]
        }
    };
}

pub(super) use error_table;
