//! Walks a tree over data and writes text.

use std::sync::Arc;

use super::ast::{Command, Node, Operand, OperandKind, Pipe};
use super::builtins::{self, Functions, Type};
use super::number::Literal;
use super::parse::{Body, Template};
use super::time;
use super::value::{TemplateError, Value};

/// What one execution may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest text that is written.
    pub output_bytes_max: usize,
    /// Nodes, commands and loop turns.
    pub steps_max: u64,
    /// How deep templates may call each other.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { output_bytes_max: 1 << 20, steps_max: 1_000_000, depth_max: 100 }
    }
}

impl Template {
    /// Executes the template over `data` (its `.` and `$`).
    ///
    /// # Errors
    /// What Go's execution would refuse, and what passes a limit.
    pub fn execute(
        &self,
        data: &Value,
        functions: &dyn Functions,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        self.run(&self.root, data, functions, limits)
    }

    /// Executes the template `name` that this one defines.
    ///
    /// # Errors
    /// When there is none of that name, and as [`Template::execute`].
    pub fn execute_named(
        &self,
        name: &str,
        data: &Value,
        functions: &dyn Functions,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        match self.defined.get(name) {
            Some(body) => self.run(body, data, functions, limits),
            None => {
                let reason = format!("no template {name:?} associated with template {:?}", self.name);
                Err(TemplateError::at("", 0, format!("template: {reason}"), reason))
            }
        }
    }

    fn run(
        &self,
        body: &Body,
        data: &Value,
        functions: &dyn Functions,
        limits: Limits,
    ) -> Result<String, TemplateError> {
        let mut run = Run {
            template: self,
            functions,
            limits,
            steps: 0,
            out: String::new(),
            body,
            variables: vec![("$".into(), data.clone())],
            place: Place { pos: 0, text: PlaceText::None },
            depth: 0,
        };
        run.nodes(&body.nodes, data)?;
        Ok(run.out)
    }
}

/// What is being executed, for errors.
#[derive(Clone, Copy)]
struct Place<'t> {
    pos: usize,
    text: PlaceText<'t>,
}

#[derive(Clone, Copy)]
enum PlaceText<'t> {
    None,
    Operand(&'t Operand),
    Command(&'t Command),
    Template(&'t str),
}

/// How a list of nodes ended.
enum Flow {
    Normal,
    Break,
    Continue,
}

struct Run<'t> {
    template: &'t Template,
    functions: &'t dyn Functions,
    limits: Limits,
    steps: u64,
    out: String,
    body: &'t Body,
    variables: Vec<(Arc<str>, Value)>,
    place: Place<'t>,
    depth: usize,
}

type Executed<T> = Result<T, TemplateError>;

impl<'t> Run<'t> {
    fn fail<T>(&self, reason: impl Into<String>) -> Executed<T> {
        let reason = reason.into();
        let body = self.body;
        let context = match self.place.text {
            PlaceText::None => {
                let message = format!("template: {}: {reason}", body.file);
                return Err(TemplateError::at(&body.text, 0, message, reason));
            }
            PlaceText::Operand(o) => o.to_string(),
            PlaceText::Command(c) => c.to_string(),
            PlaceText::Template(name) => format!("{{{{template {name:?}}}}}"),
        };
        let before = body.text.get(..self.place.pos).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1);
        let message = format!(
            "template: {}:{line}:{column}: executing {:?} at <{context}>: {reason}",
            body.file, self.template.name
        );
        Err(TemplateError::at(&body.text, self.place.pos, message, reason))
    }

    fn step(&mut self) -> Executed<()> {
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return self.fail(format!("more than {} steps", self.limits.steps_max));
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Executed<()> {
        if self.out.len() + text.len() > self.limits.output_bytes_max {
            return self.fail(format!("the text grows longer than {} bytes", self.limits.output_bytes_max));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn at(&mut self, operand: &'t Operand) {
        self.place = Place { pos: operand.pos, text: PlaceText::Operand(operand) };
    }

    // Nodes.

    fn nodes(&mut self, nodes: &'t [Node], dot: &Value) -> Executed<Flow> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Normal => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Normal)
    }

    fn node(&mut self, node: &'t Node, dot: &Value) -> Executed<Flow> {
        self.step()?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.print(&value)?;
                }
            }
            Node::If { pipe, body, otherwise } => {
                let mark = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = self.nodes(if value.truth() { body } else { otherwise }, dot)?;
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::With { pipe, body, otherwise } => {
                let mark = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow =
                    if value.truth() { self.nodes(body, &value)? } else { self.nodes(otherwise, dot)? };
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::Range { pipe, body, otherwise } => return self.range(pipe, body, otherwise, dot),
            Node::Template { name, pipe, pos } => self.template(name, pipe.as_ref(), *pos, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    fn print(&mut self, value: &Value) -> Executed<()> {
        match value {
            Value::Nil => self.write("<no value>"),
            Value::String(s) => self.write(s),
            other => self.write(&other.to_text()),
        }
    }

    fn template(&mut self, name: &'t str, pipe: Option<&'t Pipe>, pos: usize, dot: &Value) -> Executed<()> {
        self.place = Place { pos, text: PlaceText::Template(name) };
        let template: &'t Template = self.template;
        let Some(body) = template.defined.get(name) else {
            return self.fail(format!("template {name:?} not defined"));
        };
        if self.depth >= self.limits.depth_max {
            return self.fail(format!("exceeded maximum template depth ({})", self.limits.depth_max));
        }
        let data = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".into(), data.clone())]);
        let outer = std::mem::replace(&mut self.body, body);
        self.depth += 1;
        self.nodes(&body.nodes, &data)?;
        self.depth -= 1;
        self.body = outer;
        self.variables = variables;
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &'t Pipe,
        body: &'t [Node],
        otherwise: &'t [Node],
        dot: &Value,
    ) -> Executed<Flow> {
        let mark = self.variables.len();
        let value = self.pipe(pipe, dot)?;
        let loop_mark = self.variables.len();
        let pairs: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(list) => indexed(list),
            Value::Map(map) => map.iter().map(|(k, v)| (Value::str(k.as_str()), v.clone())).collect(),
            Value::Labels(labels) => labels.iter().map(|(k, v)| (Value::str(k), Value::str(v))).collect(),
            Value::Int(n) => {
                if u64::try_from(*n).unwrap_or(0) > self.limits.steps_max {
                    return self.fail(format!("more than {} steps", self.limits.steps_max));
                }
                (0..*n).map(|i| (Value::Int(i), Value::Int(i))).collect()
            }
            Value::Object(o) if o.elements().is_some() => indexed(&o.elements().unwrap_or_default()),
            other => return self.fail(format!("range can't iterate over {}", other.to_text())),
        };
        if pairs.is_empty() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(mark);
            return Ok(flow);
        }
        for (key, element) in pairs {
            self.step()?;
            match pipe.variables.as_slice() {
                // The pipeline has set the last variable to the whole; each turn sets it anew.
                [only] => self.set(only, element.clone(), loop_mark)?,
                [index, only, ..] => {
                    self.set(only, element.clone(), loop_mark)?;
                    self.set(index, key, loop_mark)?;
                }
                [] => {}
            }
            let flow = self.nodes(body, &element)?;
            self.variables.truncate(loop_mark);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(Flow::Normal)
    }

    fn set(&mut self, name: &str, value: Value, upto: usize) -> Executed<()> {
        let slots = &mut self.variables[..upto];
        match slots.iter_mut().rev().find(|(n, _)| &**n == name) {
            Some(slot) => {
                slot.1 = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    // Pipelines and commands.

    fn pipe(&mut self, pipe: &'t Pipe, dot: &Value) -> Executed<Value> {
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            self.step()?;
            value = Some(self.command(command, dot, value.take())?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            if pipe.assign {
                let upto = self.variables.len();
                self.set(name, value.clone(), upto)?;
            } else {
                self.variables.push((name.as_str().into(), value.clone()));
            }
        }
        Ok(value)
    }

    /// `last` is the result of the command before in the pipeline: the final argument.
    fn command(&mut self, command: &'t Command, dot: &Value, last: Option<Value>) -> Executed<Value> {
        let first = &command.args[0];
        let has_arguments = command.args.len() > 1 || last.is_some();
        match &first.kind {
            OperandKind::Function(name) => return self.function(name, first, Some(command), dot, last),
            OperandKind::Field(names) => {
                self.at(first);
                return self.fields(dot.clone(), names, &command.args[1..], dot, last);
            }
            OperandKind::Variable { name, fields } => {
                self.at(first);
                let value = self.variable(name)?;
                if fields.is_empty() {
                    if has_arguments {
                        return self.fail(format!("can't give argument to non-function {first}"));
                    }
                    return Ok(value);
                }
                return self.fields(value, fields, &command.args[1..], dot, last);
            }
            OperandKind::Chain { of, fields } => {
                self.at(first);
                let value = self.operand(of, dot)?;
                return self.fields(value, fields, &command.args[1..], dot, last);
            }
            _ => {}
        }
        self.at(first);
        if has_arguments {
            return self.fail(format!("can't give argument to non-function {first}"));
        }
        match &first.kind {
            OperandKind::Nil => self.fail("nil is not a command"),
            _ => self.operand(first, dot),
        }
    }

    /// An operand without arguments.
    fn operand(&mut self, operand: &'t Operand, dot: &Value) -> Executed<Value> {
        match &operand.kind {
            OperandKind::Bool(b) => Ok(Value::Bool(*b)),
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Nil => Ok(Value::Nil),
            OperandKind::Number { value: Literal::Int(i), .. } => Ok(Value::Int(*i)),
            OperandKind::Number { value: Literal::Float(f), .. } => Ok(Value::Float(*f)),
            OperandKind::String { value, .. } => Ok(Value::str(value.as_str())),
            OperandKind::Field(names) => {
                self.at(operand);
                self.fields(dot.clone(), names, &[], dot, None)
            }
            OperandKind::Variable { name, fields } => {
                self.at(operand);
                let value = self.variable(name)?;
                self.fields(value, fields, &[], dot, None)
            }
            OperandKind::Chain { of, fields } => {
                self.at(operand);
                let value = self.operand(of, dot)?;
                self.fields(value, fields, &[], dot, None)
            }
            OperandKind::Function(name) => self.function(name, operand, None, dot, None),
            OperandKind::Pipe(pipe) => self.pipe(pipe, dot),
        }
    }

    fn variable(&mut self, name: &str) -> Executed<Value> {
        match self.variables.iter().rev().find(|(n, _)| &**n == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    /// A chain of fields; only the last may be a method with arguments.
    fn fields(
        &mut self,
        mut value: Value,
        names: &[String],
        args: &'t [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Executed<Value> {
        let Some((final_name, names)) = names.split_last() else { return Ok(value) };
        for name in names {
            value = self.field(&value, name, &[])?;
        }
        let mut values = Vec::with_capacity(args.len());
        let place = self.place;
        for arg in args {
            values.push(self.operand(arg, dot)?);
        }
        self.place = place;
        values.extend(last);
        self.field(&value, final_name, &values)
    }

    fn field(&mut self, of: &Value, name: &str, args: &[Value]) -> Executed<Value> {
        let method = match of {
            Value::Object(o) => o.call(name, args),
            Value::Time(t) => time::call_time(*t, name, args),
            Value::Duration(d) if args.is_empty() => time::call_duration(*d, name),
            _ => None,
        };
        if let Some(result) = method {
            return match result {
                Ok(value) => Ok(value),
                Err(reason) => self.fail(format!("error calling {name}: {reason}")),
            };
        }
        let found = match of {
            Value::Nil => Some(Value::Nil),
            Value::Labels(labels) => Some(Value::str(labels.get(name).unwrap_or(""))),
            Value::Map(map) => Some(map.get(name).cloned().unwrap_or_default()),
            Value::Object(o) => o.field(name),
            _ => None,
        };
        match found {
            None => self.fail(format!("can't evaluate field {name} in type {}", of.type_name())),
            Some(_) if !args.is_empty() && matches!(of, Value::Labels(_) | Value::Map(_)) => {
                self.fail(format!("{name} is not a method but has arguments"))
            }
            Some(_) if !args.is_empty() => {
                self.fail(format!("{name} has arguments but cannot be invoked as function"))
            }
            Some(value) => Ok(value),
        }
    }

    // Functions.

    fn function(
        &mut self,
        name: &str,
        word: &'t Operand,
        command: Option<&'t Command>,
        dot: &Value,
        last: Option<Value>,
    ) -> Executed<Value> {
        let args: &'t [Operand] = command.map_or(&[], |c| &c.args[1..]);
        self.at(word);
        // A function of the set hides the builtin of its name.
        let of_set = self.functions.signature(name);
        let Some(signature) = of_set.or_else(|| builtins::signature(name)) else {
            return self.fail(format!("{name:?} is not a defined function"));
        };
        let count = args.len() + usize::from(last.is_some());
        let least = signature.params.len();
        if signature.rest.is_some() && count < least {
            return self.fail(format!("wrong number of args for {name}: want at least {least} got {count}"));
        }
        if signature.rest.is_none() && count != least {
            return self.fail(format!("wrong number of args for {name}: want {least} got {count}"));
        }
        if of_set.is_none() && matches!(name, "and" | "or") {
            return self.and_or(name == "and", args, dot, last);
        }
        let mut values = Vec::with_capacity(count);
        for (i, arg) in args.iter().enumerate() {
            let wanted = signature.params.get(i).copied().or(signature.rest).unwrap_or(Type::Any);
            values.push(self.argument(arg, wanted, dot)?);
        }
        if let Some(value) = last {
            let wanted = signature.params.get(args.len()).copied().or(signature.rest).unwrap_or(Type::Any);
            values.push(self.check_type(value, wanted)?);
        }
        let result = if of_set.is_some() {
            self.functions.call(name, &values)
        } else {
            builtins::call(name, &values, self.limits.output_bytes_max)
        };
        result.or_else(|reason| {
            self.place = match command {
                Some(c) => Place { pos: word.pos, text: PlaceText::Command(c) },
                None => Place { pos: word.pos, text: PlaceText::Operand(word) },
            };
            self.fail(format!("error calling {name}: {reason}"))
        })
    }

    /// Evaluates arguments only until the answer is known.
    fn and_or(
        &mut self,
        and: bool,
        args: &'t [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Executed<Value> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.operand(arg, dot)?;
            if value.truth() != and {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, arg: &'t Operand, wanted: Type, dot: &Value) -> Executed<Value> {
        self.at(arg);
        let constant = matches!(
            arg.kind,
            OperandKind::Bool(_) | OperandKind::Number { .. } | OperandKind::String { .. } | OperandKind::Nil
        );
        if !constant {
            let value = self.operand(arg, dot)?;
            return self.check_type(value, wanted);
        }
        match (wanted, &arg.kind) {
            (Type::Any, _)
            | (Type::String, OperandKind::String { .. })
            | (Type::Int, OperandKind::Number { value: Literal::Int(_), .. }) => self.operand(arg, dot),
            (Type::Int, OperandKind::Number { value: Literal::Float(f), .. }) if f.fract() == 0.0 => {
                Ok(Value::Int(*f as i64))
            }
            (Type::Object(_), OperandKind::Nil) => Ok(Value::Nil),
            (_, OperandKind::Nil) => self.fail(format!("cannot assign nil to {}", wanted.go_name())),
            (Type::String, _) => self.fail(format!("expected string; found {arg}")),
            (Type::Int, _) => self.fail(format!("expected integer; found {arg}")),
            (Type::Object(name), _) => self.fail(format!("can't handle {arg} for arg of type {name}")),
        }
    }

    fn check_type(&mut self, value: Value, wanted: Type) -> Executed<Value> {
        let fits = match (wanted, &value) {
            (Type::Any, _)
            | (Type::String, Value::String(_))
            | (Type::Int, Value::Int(_))
            | (Type::Object(_), Value::Nil) => true,
            (Type::Object(name), other) => other.type_name() == name,
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        if matches!(value, Value::Nil) {
            return self.fail(format!("invalid value; expected {}", wanted.go_name()));
        }
        self.fail(format!("wrong type for value; expected {}; got {}", wanted.go_name(), value.type_name()))
    }
}

fn indexed(list: &[Value]) -> Vec<(Value, Value)> {
    list.iter().enumerate().map(|(i, v)| (Value::Int(i as i64), v.clone())).collect()
}
