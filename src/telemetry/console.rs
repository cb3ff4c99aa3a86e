//! JSON lines on the two streams that the host reads. It grades by stream and by one word: a line on stdout is
//! Information; one on stderr is Warning if it has `warn` anywhere, else Error (functions-host.md §1.7). So `info` and
//! `debug` go to stdout, `warn` carries its own level's name, and in an `error` line the word is written with an escape
//! that JSON readers undo (`w\u0061rn`).

use super::audit;
use crate::clock::Clock;
use serde_json::{Map, Value};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{Event, Level, Metadata, Subscriber, field::Visit};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

/// Where lines go.
#[derive(Clone)]
pub struct Console(Arc<Streams>);

enum Streams {
    Process,
    File(Mutex<File>),
    Memory { stdout: Mutex<Vec<u8>>, stderr: Mutex<Vec<u8>> },
}

impl Console {
    /// This process's stdout and stderr.
    pub fn process() -> Self {
        Self(Arc::new(Streams::Process))
    }

    /// Adds all lines to the end of a file, which is made if it is not there.
    pub(super) fn appending_to(file: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(Self(Arc::new(Streams::File(Mutex::new(file)))))
    }

    /// Keeps the lines for [`Console::stdout`] and [`Console::stderr`].
    pub fn memory() -> Self {
        Self(Arc::new(Streams::Memory { stdout: Mutex::default(), stderr: Mutex::default() }))
    }

    pub fn stdout(&self) -> String {
        self.kept(false)
    }

    pub fn stderr(&self) -> String {
        self.kept(true)
    }

    fn kept(&self, error: bool) -> String {
        match &*self.0 {
            Streams::Process | Streams::File(_) => String::new(),
            Streams::Memory { stdout, stderr } => {
                let stream = if error { stderr } else { stdout };
                let bytes = stream.lock().unwrap_or_else(PoisonError::into_inner);
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    fn write(&self, error: bool, line: &[u8]) -> io::Result<()> {
        match (&*self.0, error) {
            (Streams::Process, false) => io::stdout().lock().write_all(line),
            (Streams::Process, true) => io::stderr().lock().write_all(line),
            (Streams::File(file), _) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
            }
            (Streams::Memory { stdout: stream, .. }, false)
            | (Streams::Memory { stderr: stream, .. }, true) => {
                stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { console: self.clone(), level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { console: self.clone(), level: *metadata.level() }
    }
}

/// Takes one whole line at a time, as the subscriber writes them.
pub struct Line {
    console: Console,
    level: Level,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_error = self.level == Level::ERROR;
        let graded = if is_error { without_warn(line) } else { line.to_vec() };
        self.console.write(is_error || self.level == Level::WARN, &graded)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Letters stand only inside JSON strings, where an escape means the same.
fn without_warn(line: &[u8]) -> Vec<u8> {
    let mut rest = line;
    let mut out = Vec::with_capacity(line.len());
    while let Some(at) = rest.windows(4).position(|word| word.eq_ignore_ascii_case(b"warn")) {
        out.extend_from_slice(&rest[..=at]);
        let a = if rest[at + 1] == b'a' { &b"\\u0061"[..] } else { &b"\\u0041"[..] };
        out.extend_from_slice(a);
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    out
}

/// One flat object a line: the event's fields and those of the spans around it, inner ones first.
pub(super) struct JsonLine {
    clock: Clock,
}

impl JsonLine {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        if event.metadata().target() == audit::TARGET {
            // Whole as it is: its shape is promised.
            event.record(&mut Fields(&mut line));
            return match line.get("record").and_then(Value::as_str) {
                Some(record) => writeln!(writer, "{record}"),
                None => Ok(()),
            };
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            let fields = fields.and_then(|fields| serde_json::from_str::<Map<_, _>>(fields).ok());
            let shown = |(key, _): &(String, Value)| !key.starts_with("otel.");
            line.extend(fields.into_iter().flatten().filter(shown));
        }
        event.record(&mut Fields(&mut line));
        let metadata = event.metadata();
        line.insert("timestamp".to_owned(), self.clock.now().to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &tracing::field::Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.put(field, value);
    }
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_never_has_the_word_and_reads_the_same() {
        for text in ["a warning", "WARN", "wArn and warn", "\\warn", "warwarn", "war n"] {
            let line = Value::String(text.to_owned()).to_string();
            let graded = String::from_utf8(without_warn(line.as_bytes())).unwrap();
            assert!(!graded.to_lowercase().contains("warn"), "{graded}");
            assert_eq!(serde_json::from_str::<String>(&graded).unwrap(), text);
        }
    }
}
