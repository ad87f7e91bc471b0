//! The tree of a template.

use std::fmt;

use super::number::Literal;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If { pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    Range { pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    Template { name: String, pipe: Option<Pipe>, pos: usize },
    Break,
    Continue,
}

/// Commands joined by `|`, their result put into variables if there are any.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub variables: Vec<String>,
    /// `=` instead of `:=`.
    pub assign: bool,
    pub commands: Vec<Command>,
}

/// An operand with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub args: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub kind: OperandKind,
    /// Byte offset that errors name. Of a chain of fields it is where the chain begins to be one, as in Go.
    pub pos: usize,
}

#[derive(Clone, Debug)]
pub(super) enum OperandKind {
    Bool(bool),
    Dot,
    Nil,
    Number {
        value: Literal,
        text: String,
    },
    String {
        value: String,
        text: String,
    },
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable {
        name: String,
        fields: Vec<String>,
    },
    /// `(…).A.B` and `function.A`
    Chain {
        of: Box<Operand>,
        fields: Vec<String>,
    },
    Function(String),
    Pipe(Box<Pipe>),
}

fn fields(f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
    names.iter().try_for_each(|n| write!(f, ".{n}"))
}

/// The operand as Go writes it in error messages.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            OperandKind::Bool(b) => write!(f, "{b}"),
            OperandKind::Dot => f.write_str("."),
            OperandKind::Nil => f.write_str("nil"),
            OperandKind::Number { text, .. } | OperandKind::String { text, .. } => f.write_str(text),
            OperandKind::Field(names) => fields(f, names),
            OperandKind::Variable { name, fields: names } => {
                f.write_str(name)?;
                fields(f, names)
            }
            OperandKind::Chain { of, fields: names } => {
                write!(f, "{of}")?;
                fields(f, names)
            }
            OperandKind::Function(name) => f.write_str(name),
            OperandKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{arg}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assign { "=" } else { ":=" })?;
        }
        for (i, c) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}
