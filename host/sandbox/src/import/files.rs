//! `wasi:filesystem`: the engine's own, which confines a guest to its directories, with a word about what it refused.
//!
//! The engine answers `not-permitted` to every write below a read-only directory and to every path that leads out of
//! its directory; here that is noted with the path. A guest without any directory never comes so far: its runtime finds
//! none and reports a missing file. That is not noted as a refusal, since Python, JavaScript and Go programs look for
//! directories whenever they start, but it is remembered in case the guest fails.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use super::State;
use super::open::{Count, Counted, Held};
use crate::grant::Grants;
use crate::inspect::Capability;
use crate::limit::Stop;
use crate::seam::Denials;

/// Bytes of a path that are kept for messages. Paths grow as a guest goes from directory to directory.
const PATH: usize = 1000;

/// What is known of a guest's files beside what the engine keeps.
#[derive(Debug)]
pub(crate) struct Files {
    denials: Denials,
    grants: Arc<Grants>,
    open: Count,
    descriptors: HashMap<u32, Known>,
    /// The directories whose entries are being read.
    listings: HashMap<u32, Held>,
    /// The guest looked for directories and there was none.
    found_nothing: bool,
}

/// What is known of an open descriptor.
#[derive(Debug)]
struct Known {
    /// Its path as the guest sees it, at most [`PATH`] bytes of it.
    path: String,
    /// Whether the directory it was granted with may be changed.
    writable: bool,
    _held: Held,
}

impl Files {
    pub fn new(denials: Denials, grants: Arc<Grants>) -> Self {
        Self {
            denials,
            grants,
            open: Count::default(),
            descriptors: HashMap::new(),
            listings: HashMap::new(),
            found_nothing: false,
        }
    }

    /// Whether the guest looked for directories although none was granted.
    pub fn found_nothing(&self) -> bool {
        self.found_nothing
    }

    fn path(&self, descriptor: &Resource<Descriptor>) -> &str {
        self.descriptors.get(&descriptor.rep()).map_or("?", |known| &known.path)
    }

    fn is_writable(&self, descriptor: &Resource<Descriptor>) -> bool {
        self.descriptors.get(&descriptor.rep()).is_some_and(|known| known.writable)
    }

    fn target(&self, directory: &Resource<Descriptor>, path: &str) -> Target {
        let mut full = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.path(directory).trim_end_matches('/')),
        };
        full.truncate(full.floor_char_boundary(PATH));
        Target { path: full, writable: self.is_writable(directory) }
    }

    fn itself(&self, descriptor: &Resource<Descriptor>) -> Target {
        Target { path: self.path(descriptor).to_owned(), writable: self.is_writable(descriptor) }
    }

    /// Remembers what a descriptor stands for.
    fn opened(&mut self, descriptor: &Resource<Descriptor>, target: Target) -> Result<(), Stop> {
        let Target { path, writable } = target;
        let known = Known { path, writable, _held: self.open.one_more()? };
        self.descriptors.insert(descriptor.rep(), known);
        Ok(())
    }

    /// Notes a refusal of the engine, and whether it was the way out of the directory that it refused.
    fn noted<T>(&self, result: FsResult<T>, usage: Usage, target: &Target) -> FsResult<T> {
        if let Err(error) = &result
            && error.downcast_ref() == Some(&ErrorCode::NotPermitted)
        {
            let (verb, leads_out) = match usage {
                // Everything inside may be read.
                Usage::Read => ("read", true),
                Usage::Write => ("write", target.writable),
            };
            let where_to = if leads_out { ", outside of what is granted" } else { "" };
            let path = &target.path;
            self.denials.note(Capability::Filesystem.name(), format!("{verb} {path}{where_to}"));
        }
        result
    }
}

/// What a function is about to touch.
#[derive(Debug)]
struct Target {
    path: String,
    writable: bool,
}

#[derive(Clone, Copy)]
enum Usage {
    Read,
    Write,
}

/// The files of a guest while it calls one of their functions.
pub(crate) struct View<'a> {
    engine: WasiFilesystemCtxView<'a>,
    files: &'a mut Files,
}

struct Data;

impl HasData for Data {
    type Data<'a> = View<'a>;
}

impl View<'_> {
    /// Counts an output stream that the engine has made.
    fn counted_output(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let held = self.files.open.one_more().map_err(FsError::trap)?;
        let stream = self.engine.table.delete(stream)?;
        Ok(self.engine.table.push(Counted::output(stream, held))?)
    }
}

impl State {
    fn files(&mut self, interface: &'static str) -> View<'_> {
        self.seam.enter(interface);
        let wasi = self.wasi.as_mut().expect("a component that imports WASI has its context");
        View {
            engine: WasiFilesystemCtxView { ctx: wasi.filesystem(), table: &mut self.table },
            files: &mut self.files,
        }
    }
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<State, Data>(linker, |state| {
        state.files("wasi:filesystem/preopens")
    })?;
    types::add_to_linker::<State, Data>(linker, |state| state.files("wasi:filesystem/types"))
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let grants = Arc::clone(&self.files.grants);
        self.files.found_nothing |= grants.dirs.is_empty();
        let mut directories = Vec::with_capacity(grants.dirs.len());
        for granted in &grants.dirs {
            // The engine would open them by path again, where a guest may have put something else by now.
            let descriptor = self.engine.table.push(Descriptor::Dir(granted.dir.clone()))?;
            let (path, writable) = (granted.guest.clone(), granted.writable);
            self.files.opened(&descriptor, Target { path: path.clone(), writable })?;
            directories.push((descriptor, path));
        }
        Ok(directories)
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.engine, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.engine.filesystem_error_code(error)
    }
}

type File = Resource<Descriptor>;

impl types::HostDescriptor for View<'_> {
    async fn open_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<File> {
        let target = self.files.target(&directory, &path);
        let changes = how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            || flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY);
        let opened = self.engine.open_at(directory, at, path, how, flags).await;
        let usage = if changes { Usage::Write } else { Usage::Read };
        let opened = self.files.noted(opened, usage, &target)?;
        self.files.opened(&opened, target).map_err(FsError::trap)?;
        Ok(opened)
    }

    fn drop(&mut self, file: File) -> wasmtime::Result<()> {
        self.files.descriptors.remove(&file.rep());
        types::HostDescriptor::drop(&mut self.engine, file)
    }

    async fn stat_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.stat_at(directory, at, path).await;
        self.files.noted(result, Usage::Read, &target)
    }

    async fn metadata_hash_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.metadata_hash_at(directory, at, path).await;
        self.files.noted(result, Usage::Read, &target)
    }

    async fn readlink_at(&mut self, directory: File, path: String) -> FsResult<String> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.readlink_at(directory, path).await;
        self.files.noted(result, Usage::Read, &target)
    }

    async fn set_times_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.set_times_at(directory, at, path, accessed, modified).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn create_directory_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.create_directory_at(directory, path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn remove_directory_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.remove_directory_at(directory, path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn unlink_file_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.unlink_file_at(directory, path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn symlink_at(&mut self, directory: File, to: String, path: String) -> FsResult<()> {
        let target = self.files.target(&directory, &path);
        let result = self.engine.symlink_at(directory, to, path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn link_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
        new_directory: File,
        new_path: String,
    ) -> FsResult<()> {
        let target = self.files.target(&new_directory, &new_path);
        let result = self.engine.link_at(directory, at, path, new_directory, new_path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn rename_at(
        &mut self,
        directory: File,
        path: String,
        new_directory: File,
        new_path: String,
    ) -> FsResult<()> {
        let target = self.files.target(&new_directory, &new_path);
        let result = self.engine.rename_at(directory, path, new_directory, new_path).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn write(&mut self, file: File, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let target = self.files.itself(&file);
        let result = self.engine.write(file, bytes, offset).await;
        self.files.noted(result, Usage::Write, &target)
    }

    fn write_via_stream(&mut self, file: File, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let target = self.files.itself(&file);
        let result = self.engine.write_via_stream(file, offset);
        let stream = self.files.noted(result, Usage::Write, &target)?;
        self.counted_output(stream)
    }

    fn append_via_stream(&mut self, file: File) -> FsResult<Resource<DynOutputStream>> {
        let target = self.files.itself(&file);
        let result = self.engine.append_via_stream(file);
        let stream = self.files.noted(result, Usage::Write, &target)?;
        self.counted_output(stream)
    }

    async fn set_size(&mut self, file: File, size: u64) -> FsResult<()> {
        let target = self.files.itself(&file);
        let result = self.engine.set_size(file, size).await;
        self.files.noted(result, Usage::Write, &target)
    }

    async fn set_times(
        &mut self,
        file: File,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let target = self.files.itself(&file);
        let result = self.engine.set_times(file, accessed, modified).await;
        self.files.noted(result, Usage::Write, &target)
    }

    // What follows takes nothing that could be refused: the descriptor is open already.

    fn read_via_stream(&mut self, file: File, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let stream = self.engine.read_via_stream(file, offset)?;
        let held = self.files.open.one_more().map_err(FsError::trap)?;
        let stream = self.engine.table.delete(stream)?;
        Ok(self.engine.table.push(Counted::input(stream, held))?)
    }

    async fn read(&mut self, file: File, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        self.engine.read(file, length, offset).await
    }

    async fn read_directory(
        &mut self,
        directory: File,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        // Its names are all read at once, and held until the guest drops them.
        let held = self.files.open.one_more().map_err(FsError::trap)?;
        let entries = self.engine.read_directory(directory).await?;
        self.files.listings.insert(entries.rep(), held);
        Ok(entries)
    }

    async fn advise(
        &mut self,
        file: File,
        offset: u64,
        length: u64,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.engine.advise(file, offset, length, advice).await
    }

    async fn sync_data(&mut self, file: File) -> FsResult<()> {
        self.engine.sync_data(file).await
    }

    async fn sync(&mut self, file: File) -> FsResult<()> {
        self.engine.sync(file).await
    }

    async fn get_flags(&mut self, file: File) -> FsResult<DescriptorFlags> {
        self.engine.get_flags(file).await
    }

    async fn get_type(&mut self, file: File) -> FsResult<types::DescriptorType> {
        self.engine.get_type(file).await
    }

    async fn stat(&mut self, file: File) -> FsResult<types::DescriptorStat> {
        self.engine.stat(file).await
    }

    async fn is_same_object(&mut self, one: File, other: File) -> wasmtime::Result<bool> {
        self.engine.is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, file: File) -> FsResult<types::MetadataHashValue> {
        self.engine.metadata_hash(file).await
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        entries: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.engine.read_directory_entry(entries).await
    }

    fn drop(&mut self, entries: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files.listings.remove(&entries.rep());
        types::HostDirectoryEntryStream::drop(&mut self.engine, entries)
    }
}
