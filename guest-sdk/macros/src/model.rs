//! What a module of tasks consists of, as plain data.
//!
//! Every name is here twice: as the author wrote it, and as WIT has it (kebab-case, unique where it has to be).

use proc_macro2::Ident;

/// A module of tasks.
#[derive(Debug)]
pub struct Tasks {
    /// The name of the interface.
    pub interface: String,
    pub docs: String,
    pub functions: Vec<Function>,
    /// Every type that a function mentions, in the order of the module.
    pub types: Vec<TypeDef>,
}

#[derive(Debug)]
pub struct Function {
    pub ident: Ident,
    pub name: String,
    pub docs: String,
    pub params: Vec<Param>,
    /// `None` where it returns nothing.
    pub result: Option<Ty>,
}

#[derive(Debug)]
pub struct Param {
    pub name: String,
    pub ty: Ty,
    /// Whether the author's function takes a reference.
    pub by_reference: bool,
}

/// A struct or an enum of the module.
#[derive(Debug)]
pub struct TypeDef {
    pub ident: Ident,
    pub name: String,
    pub docs: String,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Record(Vec<Field>),
    /// No case carries anything.
    Enum(Vec<Case>),
    Variant(Vec<Case>),
}

#[derive(Debug)]
pub struct Field {
    pub ident: Ident,
    pub name: String,
    pub docs: String,
    pub ty: Ty,
}

#[derive(Debug)]
pub struct Case {
    pub ident: Ident,
    pub name: String,
    pub docs: String,
    pub payload: Payload,
}

/// What a case of an enum carries.
#[derive(Debug)]
pub enum Payload {
    /// Nothing; `shape` is how Rust writes it: `A`, `A()` or `A {}`.
    Nothing(Empty),
    /// `A(T)`
    One(Ty),
    /// `A(T, U)`: a tuple.
    Tuple(Vec<Ty>),
    /// `A { x: T }`: a record of its own, with this name.
    Record(String, Vec<Field>),
}

#[derive(Debug, Clone, Copy)]
pub enum Empty {
    Plain,
    Parens,
    Braces,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Ty {
    Primitive(Primitive),
    String,
    List(Box<Ty>),
    Option(Box<Ty>),
    /// `None` is `()`.
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
    Tuple(Vec<Ty>),
    /// A type of the module, by the name its author gave it.
    Named(Ident),
    /// A type of `omniq:task/types`.
    Contract(Contract),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    Failure,
    Payload,
}

macro_rules! primitives {
    ($($variant:ident $rust:literal $wit:literal),+ $(,)?) => {
        /// A type that has the same meaning in Rust and in WIT.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Primitive { $($variant),+ }

        impl Primitive {
            pub fn from_rust(name: &str) -> Option<Self> {
                match name { $($rust => Some(Primitive::$variant),)+ _ => None }
            }

            pub fn rust(self) -> &'static str {
                match self { $(Primitive::$variant => $rust),+ }
            }

            pub fn wit(self) -> &'static str {
                match self { $(Primitive::$variant => $wit),+ }
            }
        }
    };
}

primitives! {
    Bool "bool" "bool", Char "char" "char",
    U8 "u8" "u8", U16 "u16" "u16", U32 "u32" "u32", U64 "u64" "u64",
    S8 "i8" "s8", S16 "i16" "s16", S32 "i32" "s32", S64 "i64" "s64",
    F32 "f32" "f32", F64 "f64" "f64",
}

impl Contract {
    pub fn from_rust(name: &str) -> Option<Self> {
        match name {
            "Failure" => Some(Contract::Failure),
            "Payload" => Some(Contract::Payload),
            _ => None,
        }
    }

    /// The name in `omniq:task/types`.
    pub fn wit(self) -> &'static str {
        match self {
            Contract::Failure => "failure",
            Contract::Payload => "payload",
        }
    }

    pub fn rust(self) -> &'static str {
        match self {
            Contract::Failure => "Failure",
            Contract::Payload => "Payload",
        }
    }
}

impl Ty {
    /// The types this one is written with.
    pub fn children(&self) -> Vec<&Ty> {
        match self {
            Ty::List(ty) | Ty::Option(ty) => vec![ty],
            Ty::Result(ok, err) => ok.iter().chain(err).map(|ty| &**ty).collect(),
            Ty::Tuple(types) => types.iter().collect(),
            Ty::Primitive(_) | Ty::String | Ty::Named(_) | Ty::Contract(_) => Vec::new(),
        }
    }

    /// Whether the author's type and that of the bindings are the same, so that nothing has to be converted.
    pub fn is_plain(&self) -> bool {
        !matches!(self, Ty::Named(_) | Ty::Contract(_))
            && self.children().iter().all(|ty| ty.is_plain())
    }

    fn mentions(&self, contract: Contract) -> bool {
        *self == Ty::Contract(contract) || self.children().iter().any(|ty| ty.mentions(contract))
    }
}

impl TypeDef {
    /// The types its fields or cases are written with.
    pub fn members(&self) -> Vec<&Ty> {
        match &self.body {
            Body::Record(fields) => fields.iter().map(|field| &field.ty).collect(),
            Body::Enum(_) => Vec::new(),
            Body::Variant(cases) => cases.iter().flat_map(|case| case.payload.types()).collect(),
        }
    }
}

impl Payload {
    pub fn types(&self) -> Vec<&Ty> {
        match self {
            Payload::Nothing(_) => Vec::new(),
            Payload::One(ty) => vec![ty],
            Payload::Tuple(types) => types.iter().collect(),
            Payload::Record(_, fields) => fields.iter().map(|field| &field.ty).collect(),
        }
    }
}

impl Tasks {
    /// The type of the module with this Rust name, which a [`Ty::Named`] always has.
    pub fn type_def(&self, ident: &Ident) -> Option<&TypeDef> {
        self.types.iter().find(|def| def.ident == *ident)
    }

    /// Whether a function or a type of the module mentions this type of the contract.
    pub fn uses(&self, contract: Contract) -> bool {
        let in_functions = self.functions.iter().flat_map(|function| {
            function.params.iter().map(|param| &param.ty).chain(&function.result)
        });
        let in_types = self.types.iter().flat_map(TypeDef::members);
        in_functions.chain(in_types).any(|ty| ty.mentions(contract))
    }

    /// The name of a contract's type within the interface, where the author may have taken it for something else.
    pub fn contract_name(&self, contract: Contract) -> String {
        let name = contract.wit();
        if self.is_taken(name) { format!("task-{name}") } else { name.to_owned() }
    }

    /// Whether a function, a type or a record made for a case has this name.
    pub fn is_taken(&self, name: &str) -> bool {
        let made = self.types.iter().flat_map(|def| match &def.body {
            Body::Variant(cases) => cases.as_slice(),
            _ => &[],
        });
        let made = made.filter_map(|case| match &case.payload {
            Payload::Record(name, _) => Some(name),
            _ => None,
        });
        let functions = self.functions.iter().map(|function| &function.name);
        functions
            .chain(self.types.iter().map(|def| &def.name))
            .chain(made)
            .any(|taken| taken == name)
    }
}
