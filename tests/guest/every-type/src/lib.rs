//! Gives back what it is given, in every type that the macro knows, and with names that are hard on it.

/// Values there and back.
#[omniq::tasks]
mod echo {
    use omniq::Failure;
    use std::time::Duration;

    pub fn echo_bool(value: bool) -> bool {
        value
    }

    pub fn echo_u8(value: u8) -> u8 {
        value
    }

    pub fn echo_u16(value: u16) -> u16 {
        value
    }

    pub fn echo_u32(value: u32) -> u32 {
        value
    }

    pub fn echo_u64(value: u64) -> u64 {
        value
    }

    pub fn echo_s8(value: i8) -> i8 {
        value
    }

    pub fn echo_s16(value: i16) -> i16 {
        value
    }

    pub fn echo_s32(value: i32) -> i32 {
        value
    }

    pub fn echo_s64(value: i64) -> i64 {
        value
    }

    pub fn echo_f32(value: f32) -> f32 {
        value
    }

    pub fn echo_f64(value: f64) -> f64 {
        value
    }

    pub fn echo_char(value: char) -> char {
        value
    }

    /// Text, as Unicode has it.
    pub fn echo_string(value: String) -> String {
        value
    }

    pub fn echo_bytes(value: Vec<u8>) -> Vec<u8> {
        value
    }

    pub fn echo_numbers(value: Vec<i64>) -> Vec<i64> {
        value
    }

    pub fn echo_strings(value: Vec<String>) -> Vec<String> {
        value
    }

    pub fn echo_lists(value: Vec<Vec<u16>>) -> Vec<Vec<u16>> {
        value
    }

    pub fn echo_tuple(value: (u8, String, bool)) -> (u8, String, bool) {
        value
    }

    pub fn echo_record(value: Person) -> Person {
        value
    }

    pub fn echo_records(value: Vec<Person>) -> Vec<Person> {
        value
    }

    pub fn echo_variant(value: Shape) -> Shape {
        value
    }

    pub fn echo_enum(value: Colour) -> Colour {
        value
    }

    pub fn echo_option(value: Option<u32>) -> Option<u32> {
        value
    }

    pub fn echo_nested_option(value: Option<Option<u32>>) -> Option<Option<u32>> {
        value
    }

    pub fn echo_pairs(value: Vec<(String, Option<Point>)>) -> Vec<(String, Option<Point>)> {
        value
    }

    /// The result as a value within another: the call itself succeeds either way.
    pub fn echo_result(value: Result<u32, String>) -> Vec<Result<u32, String>> {
        vec![value]
    }

    pub fn echo_results(value: Vec<Result<Point, Colour>>) -> Vec<Result<Point, Colour>> {
        value
    }

    pub fn echo_empty_results(
        value: (Result<(), ()>, Result<u8, ()>, Result<(), u8>),
    ) -> (Result<(), ()>, Result<u8, ()>, Result<(), u8>) {
        value
    }

    pub fn echo_payload(value: omniq::Payload) -> omniq::Payload {
        value
    }

    pub fn echo_failure(value: Failure) -> Failure {
        value
    }

    /// References work as parameters.
    pub fn join(parts: &[String], separator: &str) -> String {
        parts.join(separator)
    }

    pub fn length(person: &Person, bytes: &[u8], count: &u32) -> u64 {
        (person.name.len() + bytes.len()) as u64 + u64::from(*count)
    }

    pub fn nothing() {}

    pub fn unit_on_success(fail: bool) -> Result<(), Colour> {
        if fail { Err(Colour::LightBlue) } else { Ok(()) }
    }

    /// Fails as it is told to.
    pub fn fail(how: FailHow) -> Result<u32, Failure> {
        match how {
            FailHow::Permanently => {
                Err(Failure::permanent("it will not get better").code("hopeless"))
            }
            FailHow::RetryAfter { seconds, note } => {
                Err(Failure::new(note).retry_after(Duration::from_secs(seconds)))
            }
            FailHow::Snooze(seconds) => Err(Failure::snooze(Duration::from_secs(seconds))),
            FailHow::ByPolicy() => Err(Failure::new("perhaps next time")),
            FailHow::Parse(text) => Ok(text.parse::<u32>()?),
        }
    }

    pub fn aliased(value: Pairs<u8>) -> Fallible<Pairs<u8>> {
        helper(value)
    }

    /// Not exported, and free to use whatever it likes.
    fn helper<T>(value: T) -> Fallible<T> {
        Ok(value)
    }

    type Pairs<T> = Vec<(Name, T)>;
    type Name = String;
    type Fallible<T, E = Failure> = Result<T, E>;

    #[derive(Debug, Clone, PartialEq)]
    pub struct Person {
        /// The full name.
        pub name: Name,
        age: u8,
        home: std::option::Option<Point>,
        friends: Vec<String>,
        favourite: Colour,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Point {
        x: i32,
        y: i32,
    }

    #[derive(Debug, Clone, PartialEq)]
    pub enum Shape {
        Empty,
        Circle(f64),
        Segment(Point, Point),
        Polygon { corners: Vec<Point>, filled: bool },
        Named(Vec<Shapeless>),
    }

    #[derive(Debug, Clone, PartialEq)]
    pub struct Shapeless {
        why: String,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Colour {
        Red = 10,
        LightBlue = 3,
        HTMLGreen,
    }

    pub enum FailHow {
        Permanently,
        RetryAfter { seconds: u64, note: String },
        Snooze(u64),
        ByPolicy(),
        Parse(String),
    }

    /// Not part of any signature.
    #[expect(dead_code, reason = "shows that a type which is not exported may be anything")]
    struct Private<'a> {
        map: std::collections::HashMap<&'a str, usize>,
    }
}

/// Names that are taken: by WIT, by Rust, by the bindings, by each other.
#[omniq::tasks(package = "test:names@1.2.3")]
mod names {
    /// Words that mean something else in WIT, in Rust, or in the bindings.
    pub fn r#type(r#enum: u32, list: u32, r#use: u32, _result: u32) -> u32 {
        r#enum + list + r#use + _result
    }

    pub fn record(interface: Interface) -> Interface {
        interface
    }

    pub fn guest(guest: Guest, option: Option) -> (Guest, Option) {
        (guest, option)
    }

    /// A type of the same name is there, too.
    pub fn point() -> Point {
        Point { x: 1, y: -1 }
    }

    pub fn sum(result: Result) -> u32 {
        result.total
    }

    /// Not the type of the contract.
    pub fn failure(failure: Failure) -> std::result::Result<u32, omniq::Failure> {
        if failure.code == 0 { Ok(0) } else { Err(omniq::Failure::new("not zero")) }
    }

    pub struct Point {
        x: i32,
        y: i32,
    }

    pub struct Failure {
        code: u8,
    }

    /// Hides the one of the standard library.
    pub struct Result {
        total: u32,
    }

    pub struct Interface {
        r#type: u8,
        record: u8,
        r#move: Shadow,
    }

    pub enum Shadow {
        Ok,
        Err(u8),
        None,
    }

    pub struct Guest {
        own: bool,
    }

    /// Hides the one of the standard library.
    pub struct Option {
        some: bool,
    }
}
