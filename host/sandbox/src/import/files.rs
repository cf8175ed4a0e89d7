//! `wasi:filesystem`: the engine's own, which confines a guest to its directories, with a word about what it refused.
//!
//! The engine answers `not-permitted` to every write below a read-only directory and to every path that leads out of
//! its directory; here that is noted with the path. A guest without any directory never comes so far: its runtime finds
//! none and reports a missing file. That is not noted as a refusal, since Python, JavaScript and Go programs look for
//! directories whenever they start, but it is remembered in case the guest fails.

use std::collections::HashMap;

use omniq_model::Kind;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use super::State;
use crate::inspect::Capability;
use crate::limit::Stop;
use crate::seam::Denials;

/// Files and directories a guest may have open at once. Each is one of the process's file descriptors.
const OPEN: usize = 256;

/// What is known of a guest's files beside what the engine keeps.
#[derive(Debug)]
pub(crate) struct Files {
    denials: Denials,
    /// The path of each open descriptor, as the guest sees it.
    paths: HashMap<u32, String>,
    /// The guest looked for directories and there was none.
    found_nothing: bool,
}

impl Files {
    pub fn new(denials: Denials) -> Self {
        Self { denials, paths: HashMap::new(), found_nothing: false }
    }

    /// Whether the guest looked for directories although none was granted.
    pub fn found_nothing(&self) -> bool {
        self.found_nothing
    }

    fn path(&self, descriptor: &Resource<Descriptor>) -> &str {
        self.paths.get(&descriptor.rep()).map_or("?", String::as_str)
    }

    fn below(&self, directory: &Resource<Descriptor>, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.path(directory).trim_end_matches('/')),
        }
    }

    /// Remembers what a descriptor stands for.
    fn opened(&mut self, descriptor: &Resource<Descriptor>, path: String) -> Result<(), Stop> {
        self.paths.insert(descriptor.rep(), path);
        if self.paths.len() > OPEN {
            let message = format!("the guest has more than {OPEN} files and directories open");
            return Err(Stop::new(Kind::Handles, message));
        }
        Ok(())
    }

    /// Notes a refusal of the engine.
    fn noted<T>(&self, result: FsResult<T>, usage: Usage, path: &str) -> FsResult<T> {
        if let Err(error) = &result
            && error.downcast_ref() == Some(&ErrorCode::NotPermitted)
        {
            let verb = match usage {
                Usage::Read => "read",
                Usage::Write => "write",
            };
            self.denials.note(Capability::Filesystem.name(), format!("{verb} {path}"));
        }
        result
    }
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
        let directories = preopens::Host::get_directories(&mut self.engine)?;
        self.files.found_nothing |= directories.is_empty();
        for (descriptor, path) in &directories {
            self.files.opened(descriptor, path.clone())?;
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
        let full = self.files.below(&directory, &path);
        let changes = how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            || flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY);
        let opened = self.engine.open_at(directory, at, path, how, flags).await;
        let opened =
            self.files.noted(opened, if changes { Usage::Write } else { Usage::Read }, &full)?;
        self.files.opened(&opened, full).map_err(FsError::trap)?;
        Ok(opened)
    }

    fn drop(&mut self, file: File) -> wasmtime::Result<()> {
        self.files.paths.remove(&file.rep());
        types::HostDescriptor::drop(&mut self.engine, file)
    }

    async fn stat_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.stat_at(directory, at, path).await;
        self.files.noted(result, Usage::Read, &full)
    }

    async fn metadata_hash_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.metadata_hash_at(directory, at, path).await;
        self.files.noted(result, Usage::Read, &full)
    }

    async fn readlink_at(&mut self, directory: File, path: String) -> FsResult<String> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.readlink_at(directory, path).await;
        self.files.noted(result, Usage::Read, &full)
    }

    async fn set_times_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.set_times_at(directory, at, path, accessed, modified).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn create_directory_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.create_directory_at(directory, path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn remove_directory_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.remove_directory_at(directory, path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn unlink_file_at(&mut self, directory: File, path: String) -> FsResult<()> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.unlink_file_at(directory, path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn symlink_at(&mut self, directory: File, to: String, path: String) -> FsResult<()> {
        let full = self.files.below(&directory, &path);
        let result = self.engine.symlink_at(directory, to, path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn link_at(
        &mut self,
        directory: File,
        at: PathFlags,
        path: String,
        new_directory: File,
        new_path: String,
    ) -> FsResult<()> {
        let full = self.files.below(&new_directory, &new_path);
        let result = self.engine.link_at(directory, at, path, new_directory, new_path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn rename_at(
        &mut self,
        directory: File,
        path: String,
        new_directory: File,
        new_path: String,
    ) -> FsResult<()> {
        let full = self.files.below(&new_directory, &new_path);
        let result = self.engine.rename_at(directory, path, new_directory, new_path).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn write(&mut self, file: File, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let full = self.files.path(&file).to_owned();
        let result = self.engine.write(file, bytes, offset).await;
        self.files.noted(result, Usage::Write, &full)
    }

    fn write_via_stream(&mut self, file: File, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let full = self.files.path(&file).to_owned();
        let result = self.engine.write_via_stream(file, offset);
        self.files.noted(result, Usage::Write, &full)
    }

    fn append_via_stream(&mut self, file: File) -> FsResult<Resource<DynOutputStream>> {
        let full = self.files.path(&file).to_owned();
        let result = self.engine.append_via_stream(file);
        self.files.noted(result, Usage::Write, &full)
    }

    async fn set_size(&mut self, file: File, size: u64) -> FsResult<()> {
        let full = self.files.path(&file).to_owned();
        let result = self.engine.set_size(file, size).await;
        self.files.noted(result, Usage::Write, &full)
    }

    async fn set_times(
        &mut self,
        file: File,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let full = self.files.path(&file).to_owned();
        let result = self.engine.set_times(file, accessed, modified).await;
        self.files.noted(result, Usage::Write, &full)
    }

    // What follows takes nothing that could be refused: the descriptor is open already.

    fn read_via_stream(&mut self, file: File, offset: u64) -> FsResult<Resource<DynInputStream>> {
        self.engine.read_via_stream(file, offset)
    }

    async fn read(&mut self, file: File, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        self.engine.read(file, length, offset).await
    }

    async fn read_directory(
        &mut self,
        directory: File,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        self.engine.read_directory(directory).await
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
        types::HostDirectoryEntryStream::drop(&mut self.engine, entries)
    }
}
