//! docs/logging.md, its table from the list in the code.

use std::fmt::Write;

use onboarding_bridge::telemetry::fields::ALLOWED;

const HEAD: &str = "# The log

<!-- Generated from src/telemetry/fields.rs by `UPDATE_DOCS=1 cargo test --test it docs`. -->

The log goes to standard error, one fact a line.
A thread of its own writes it: where nobody reads standard error, 4096 lines wait, further ones are lost, and events, probes and the end go on.
An end waits two seconds for it at most.
Where a person looks (a terminal) a line is words, everywhere else it is one JSON object:

```json
{\"timestamp\":\"2024-05-29T17:55:28.101223Z\",\"level\":\"INFO\",\"message\":\"the sink is closed\",\"sink\":\"kafka\",\"behind\":0,\"target\":\"onboarding_bridge::deliver\"}
```

`timestamp`, `level`, `message` and `target` (the module that speaks) are in every line, further fields beside them as the table below has them.

## Levels

- `ERROR`: somebody must act.
- `WARN`: unexpected, and recovered or tried again.
- `INFO`: milestones.
- `DEBUG`: for who looks for a defect.

`RUST_LOG` sets other levels (`RUST_LOG=debug`, `RUST_LOG=info,onboarding_bridge::feed=debug`).
A running bridge is asked for its levels, and given others until it ends, by the admin port; only from the same machine, or through a forwarded port, and never by a page in a browser:

```sh
curl http://127.0.0.1:9464/log-level
curl -X PUT --data 'info,onboarding_bridge::feed=debug' http://127.0.0.1:9464/log-level
```

Neither can raise the libraries that carry keys, tokens and people to a level at which they print them, and no other library is printed at levels finer than `INFO`.

## What a line may hold

No personal data, no key of a record, no credential, at any level.
That does not rest on care alone:

- Only the fields of the table are printed; the value of any other field is `***`, whoever logs it, and of other libraries' lines only the message is printed.
  A test compares the table with what the code logs, so that a new field is a decision.
- The words of the vendor, of a broker or of a reply are reduced to plain words before they are logged.
- A panic tells where it was, and what it was given to say only if that stands in the program's text.
  Whatever a panic's words were put together from could be a person's.
- No core file is made of the process, whichever limit it was started with: the limit is set to 1 byte at the start, at which the kernel neither writes a file nor hands the memory to a crash handler.
  Where that cannot be set, a warning says so.

What reads the memory of a process by itself (a debugger, a handler of its own) is beyond the process's reach.

## The fields

| field | what it holds |
| --- | --- |
";

/// The whole document.
pub(super) fn render() -> String {
    let mut document = HEAD.to_owned();
    for (name, meaning) in ALLOWED {
        writeln!(document, "| `{name}` | {meaning} |").unwrap();
    }
    document
}
