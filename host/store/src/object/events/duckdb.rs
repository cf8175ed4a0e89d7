//! Questions answered by DuckDB, which reads the files itself: in a folder as they are, from a bucket as copies that are
//! gone afterwards.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use omniq_model::Timestamp;

use super::ObjectEvents;
use super::hour::{Hour, LAST};
use super::line::COLUMNS;
use super::sql::{Answer, Cell, Question, refused};
use super::{read, segment};
use crate::object::objects::{WIDTH, random};
use crate::{Error, Result};

const ACTION: &str = "read events";

impl ObjectEvents {
    pub(super) async fn ask_duckdb(&self, question: &Question) -> Result<Answer> {
        self.0.flush().await?;
        let (files, copies) = self.files(question).await?;
        let (question, memory) = (question.clone(), self.0.options.memory);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask(&question, &files, memory);
            drop(copies);
            answer
        });
        asked.await.map_err(refused)?
    }

    /// The segments a question is about, as files, and what removes those that are copies.
    async fn files(&self, question: &Question) -> Result<(Vec<PathBuf>, Option<Copies>)> {
        let instant = |at: Option<Timestamp>, other| at.unwrap_or(Timestamp::from_millis(other));
        let (from, to) = (instant(question.from, 0), instant(question.to, LAST));
        // What is written twice may stand in two hours.
        let from = Hour::of(Hour::of(from).begin() - read::APART);
        let to = Hour::of(Hour::of(to).end());
        let mut names = Vec::new();
        for hour in read::hours(&self.0.objects, from, to).await? {
            let found = self.0.objects.list(&hour.folder(), ACTION).await?;
            names.extend(found.into_iter().filter(|name| segment::is_segment(name)));
        }
        if let Some(folder) = &self.0.objects.root.folder {
            return Ok((names.iter().map(|name| folder.join(name)).collect(), None));
        }
        let copies = Copies::new()?;
        let copied = names.iter().map(|name| async {
            let path = copies.0.join(segment::order(name));
            let Some(bytes) = self.0.objects.get(name, ACTION).await? else { return Ok(None) };
            fs::write(&path, bytes).map_err(|error| Error::unavailable("duckdb", ACTION, error))?;
            Ok::<_, Error>(Some(path))
        });
        let copied = copied.collect::<Vec<_>>();
        let files: Vec<_> = stream::iter(copied).buffered(WIDTH).try_collect().await?;
        Ok((files.into_iter().flatten().collect(), Some(copies)))
    }
}

/// A folder that only we can read and that goes away.
#[derive(Debug)]
struct Copies(PathBuf);

impl Copies {
    fn new() -> Result<Self> {
        let random: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = std::env::temp_dir().join(format!("omniq-events-{random}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| Error::unavailable("duckdb", ACTION, error))?;
        Ok(Self(folder))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the system's own cleaning has the rest
    }
}

/// Loads the files, shuts everything else off, and asks.
fn ask(question: &Question, files: &[PathBuf], memory: usize) -> Result<Answer> {
    let database = Database::open()?;
    database.run(&format!("set memory_limit = '{} MiB'", (memory >> 20).max(64)))?;
    database.run(&load(question, files))?;
    // From here on what is asked can reach neither files nor the network, nor change that.
    database.run("set enable_external_access = false")?;
    database.run("set lock_configuration = true")?;
    database.ask(&question.sql, question.max)
}

/// The statement that makes the table `events` of files.
fn load(question: &Question, files: &[PathBuf]) -> String {
    let typed = |quote: &str| {
        let column = |(name, kind): &(&str, &str)| format!("{name}{quote} {kind}");
        COLUMNS.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    if files.is_empty() {
        return format!("create table events({})", typed(""));
    }
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let kinds: Vec<_> = COLUMNS.iter().map(|(name, kind)| format!("{name}: '{kind}'")).collect();
    let files: Vec<_> = files.iter().map(|file| literal(file)).collect();
    let bound = |sign: &str, at: Option<Timestamp>| {
        at.map(|at| format!(" and ms {sign} {}", at.as_millis())).unwrap_or_default()
    };
    // Of what is written twice the first counts, whenever it says it was: it is filtered by time afterwards.
    format!(
        "create table events as select {names} from (
           select *, row_number() over (partition by task, fence, kind order by parse_filename(filename)) as copy
             from read_ndjson([{files}], columns = {{{kinds}}}, filename = true, ignore_errors = true))
          where copy = 1{}{}",
        bound(">=", question.from),
        bound("<", question.to),
        names = names.join(", "),
        files = files.join(", "),
        kinds = kinds.join(", "),
    )
}

/// A path as a text in SQL.
fn literal(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "''"))
}

type Handle = *mut c_void;

/// A result as `duckdb.h` of DuckDB 1 lays it out; only its functions look inside.
#[repr(C)]
struct Raw {
    deprecated: [u64; 3],
    pointers: [Handle; 3],
}

/// Declares the functions of DuckDB's C interface that are used, and loads them from its library.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// DuckDB's library and what is used of it.
        #[derive(Debug)]
        struct Library {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            _library: libloading::Library,
        }

        impl Library {
            #[expect(unsafe_code, reason = "a C library can only be trusted to be what it is called")]
            fn load(path: &str) -> Result<Self, libloading::Error> {
                // SAFETY: initialisers of DuckDB's library do nothing that Rust would mind; which library it is, the
                // operator says. The types are those of `duckdb.h`, whose major version is checked by the caller.
                unsafe {
                    let library = libloading::Library::new(path)?;
                    Ok(Self {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    duckdb_library_version: fn() -> *const c_char;
    duckdb_open: fn(*const c_char, *mut Handle) -> i32;
    duckdb_connect: fn(Handle, *mut Handle) -> i32;
    duckdb_disconnect: fn(*mut Handle);
    duckdb_close: fn(*mut Handle);
    duckdb_query: fn(Handle, *const c_char, *mut Raw) -> i32;
    duckdb_destroy_result: fn(*mut Raw);
    duckdb_result_error: fn(*mut Raw) -> *const c_char;
    duckdb_column_count: fn(*mut Raw) -> u64;
    duckdb_row_count: fn(*mut Raw) -> u64;
    duckdb_column_name: fn(*mut Raw, u64) -> *const c_char;
    duckdb_column_type: fn(*mut Raw, u64) -> i32;
    duckdb_value_is_null: fn(*mut Raw, u64, u64) -> bool;
    duckdb_value_varchar: fn(*mut Raw, u64, u64) -> *mut c_char;
    duckdb_free: fn(*mut c_void);
}

/// The variable that says where DuckDB's library is.
const VARIABLE: &str = "OMNIQ_DUCKDB";

fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    let (mut path, mut loaded) = (String::new(), Err(String::new()));
    for place in places() {
        loaded = Library::load(&place).map_err(|error| error.to_string());
        path = place;
        if loaded.is_ok() {
            break;
        }
    }
    let loaded = loaded.map_err(|error| {
        Error::Config(format!(
            "DuckDB's library could not be loaded: {error}; install `libduckdb.so` of DuckDB 1, or say where it is by `{VARIABLE}`"
        ))
    })?;
    let version = loaded.version();
    if !version.starts_with("v1.") {
        return Err(Error::Config(format!("`{path}` is DuckDB {version}, and DuckDB 1 is needed")));
    }
    Ok(LIBRARY.get_or_init(|| loaded))
}

/// Where the library may be: where the variable says, else where `scripts/setup` leaves it, else where the system looks.
fn places() -> Vec<String> {
    if let Ok(given) = std::env::var(VARIABLE) {
        return vec![given];
    }
    let cache = std::env::var("XDG_CACHE_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
    let set_up = cache.map(|cache| format!("{cache}/omniq/services/duckdb/libduckdb.so"));
    set_up.into_iter().chain(["libduckdb.so".to_owned()]).collect()
}

#[expect(unsafe_code, reason = "calls of the C interface, each as `duckdb.h` asks")]
mod calls {
    use super::*;

    impl Library {
        pub(super) fn version(&self) -> String {
            // SAFETY: takes nothing and gives a constant text.
            unsafe { text((self.duckdb_library_version)()) }
        }
    }

    /// A text of the library's, copied.
    ///
    /// # Safety
    /// `text` is null, or ends with a zero.
    unsafe fn text(text: *const c_char) -> String {
        match text.is_null() {
            true => String::new(),
            // SAFETY: the caller's word.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        }
    }

    /// A database in memory and a connection to it.
    pub(super) struct Database {
        library: &'static Library,
        database: Handle,
        connection: Handle,
    }

    impl Database {
        pub(super) fn open() -> Result<Self> {
            let library = library()?;
            let null = std::ptr::null_mut();
            let mut opened = Self { library, database: null, connection: null };
            // SAFETY: a null path means memory; both handles are written before they are used, and closed by `drop`.
            let failed = unsafe {
                (library.duckdb_open)(std::ptr::null(), &raw mut opened.database) != 0
                    || (library.duckdb_connect)(opened.database, &raw mut opened.connection) != 0
            };
            if failed { Err(refused("DuckDB could not be started")) } else { Ok(opened) }
        }

        pub(super) fn run(&self, sql: &str) -> Result<()> {
            self.query(sql).map(drop)
        }

        pub(super) fn ask(&self, sql: &str, max: usize) -> Result<Answer> {
            let mut found = self.query(sql)?;
            let raw = &raw mut found.raw;
            let library = self.library;
            // SAFETY: `raw` is a result that has not been destroyed, and the columns and rows are its own.
            unsafe {
                let columns = 0..(library.duckdb_column_count)(raw);
                let rows = (library.duckdb_row_count)(raw);
                let wanted = 0..rows.min(u64::try_from(max).unwrap_or(u64::MAX));
                let name = |column| text((library.duckdb_column_name)(raw, column));
                let row = |row| columns.clone().map(|column| self.cell(raw, column, row)).collect();
                Ok(Answer {
                    columns: columns.clone().map(name).collect(),
                    rows: wanted.clone().map(row).collect(),
                    cut: rows > wanted.end,
                })
            }
        }

        /// # Safety
        /// `raw` is a result that has not been destroyed, and has that column and row.
        unsafe fn cell(&self, raw: *mut Raw, column: u64, row: u64) -> Cell {
            // SAFETY: the caller's word; the text is ours and freed by the library that made it.
            let (kind, value) = unsafe {
                if (self.library.duckdb_value_is_null)(raw, column, row) {
                    return Cell::Null;
                }
                let value = (self.library.duckdb_value_varchar)(raw, column, row);
                let copied = text(value);
                (self.library.duckdb_free)(value.cast());
                ((self.library.duckdb_column_type)(raw, column), copied)
            };
            match kind {
                1 => Cell::Integer(i64::from(value == "true")), // as SQLite has truth
                2..=9 | 16 | 32 => value.parse().map_or(Cell::Text(value), Cell::Integer),
                10 | 11 | 19 => value.parse().map_or(Cell::Text(value), Cell::Real),
                _ => Cell::Text(value),
            }
        }

        fn query(&self, sql: &str) -> Result<Rows> {
            let sql = CString::new(sql).map_err(|_| refused("it holds a zero byte"))?;
            let raw = Raw { deprecated: [0; 3], pointers: [std::ptr::null_mut(); 3] };
            let mut rows = Rows { library: self.library, raw };
            // SAFETY: the connection is open, the statement ends with a zero, and the result is destroyed by its owner,
            // also after an error, as `duckdb.h` asks.
            let failed = unsafe {
                (self.library.duckdb_query)(self.connection, sql.as_ptr(), &raw mut rows.raw) != 0
            };
            if failed {
                // SAFETY: the result of a failed query has a text that lives as long as it does.
                let reason = unsafe { text((self.library.duckdb_result_error)(&raw mut rows.raw)) };
                return Err(refused(reason.lines().next().unwrap_or_default()));
            }
            Ok(rows)
        }
    }

    impl Drop for Database {
        fn drop(&mut self) {
            // SAFETY: both take null, and what was opened is closed once: they set the handle to null.
            unsafe {
                (self.library.duckdb_disconnect)(&raw mut self.connection);
                (self.library.duckdb_close)(&raw mut self.database);
            }
        }
    }

    /// A result.
    pub(super) struct Rows {
        library: &'static Library,
        raw: Raw,
    }

    impl Drop for Rows {
        fn drop(&mut self) {
            // SAFETY: it was filled by a query and is destroyed once.
            unsafe { (self.library.duckdb_destroy_result)(&raw mut self.raw) }
        }
    }
}

use calls::Database;
