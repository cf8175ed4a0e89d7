//! Statements: the schema's name in their text, and values that grow with a filter.

use omniq_model::TaskId;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Postgres};

/// A statement with its values.
pub(super) type Bound = Query<'static, Postgres, PgArguments>;

/// Which schema, and whether a server may keep statements for later.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// In quotes, as a statement has it.
    quoted: String,
    /// Whether statements are prepared once per connection; not behind a pooler, where the next one may be another.
    prepares: bool,
}

/// What holds the planner to the indices; see `schema/0002_functions.sql`. The cost that switched-off ways of joining are
/// given makes statements look expensive enough to be compiled, which takes longer than they do: so never that.
/// One line: a comment names it too.
const PINNED: &str = "set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off \
    set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan";

/// The same for a transaction.
pub(super) const PINS: &str = "
    set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_hashjoin = off;
    set local enable_mergejoin = off; set local jit = off;";

impl Schema {
    pub(super) fn new(name: &str, prepares: bool) -> Self {
        Self { quoted: format!("\"{}\"", name.replace('"', "\"\"")), prepares }
    }

    /// The text with `$S` and `$PINNED` in it filled in.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("$PINNED", PINNED).replace("$S", &self.quoted)
    }

    /// A statement whose text is a constant of ours.
    pub(super) fn query(&self, text: &'static str) -> Bound {
        self.query_of(text)
    }

    /// A statement whose text was put together of constants.
    fn query_of(&self, text: &str) -> Bound {
        sqlx::query(AssertSqlSafe(self.fill(text))).persistent(self.prepares)
    }
}

/// One value for a statement.
#[derive(Debug, Clone)]
enum Arg {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Ids(Vec<Uuid>),
    Numbers(Vec<i16>),
}

/// A statement under construction. Text comes from constants only; what callers gave is in the arguments.
#[derive(Debug, Default)]
pub(super) struct Sql {
    text: String,
    args: Vec<Arg>,
}

impl Sql {
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn arg(&mut self, arg: Arg, cast: &str) -> &mut Self {
        self.args.push(arg);
        self.text.push_str(&format!("${}{cast}", self.args.len()));
        self
    }

    pub(super) fn int(&mut self, value: impl TryInto<i64>) -> &mut Self {
        self.arg(Arg::Int(value.try_into().unwrap_or(i64::MAX)), "::bigint")
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.arg(Arg::Text(value.to_owned()), "::text")
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.arg(Arg::Bytes(value.to_vec()), "::bytea")
    }

    pub(super) fn ids(&mut self, ids: &[TaskId]) -> &mut Self {
        self.arg(Arg::Ids(uuids(ids)), "::uuid[]")
    }

    pub(super) fn numbers(&mut self, numbers: Vec<i16>) -> &mut Self {
        self.arg(Arg::Numbers(numbers), "::smallint[]")
    }

    pub(super) fn into_query(self, schema: &Schema) -> Bound {
        let query = schema.query_of(&self.text);
        self.args.into_iter().fold(query, |query, arg| match arg {
            Arg::Int(value) => query.bind(value),
            Arg::Text(value) => query.bind(value),
            Arg::Bytes(value) => query.bind(value),
            Arg::Ids(value) => query.bind(value),
            Arg::Numbers(value) => query.bind(value),
        })
    }
}

/// An id as a column has it.
pub(super) fn uuid(id: TaskId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn uuids(ids: &[TaskId]) -> Vec<Uuid> {
    ids.iter().copied().map(uuid).collect()
}

pub(super) fn task_id(id: Uuid) -> TaskId {
    TaskId::from_bytes(*id.as_bytes())
}

/// A count as a column has it.
pub(super) fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Milliseconds; the most there are for what is longer.
pub(super) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
