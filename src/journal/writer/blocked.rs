//! When the journal takes no events, and what is said of it: once when it begins, once when it ends.

use super::Writer;
use crate::journal::trouble::Blocked;

impl Writer {
    /// Bytes of the file in use, by the last measurement.
    pub(super) fn used(&self) -> u64 {
        u64::try_from(self.metrics.journal.bytes.get()).unwrap_or_default()
    }

    /// Takes events again, or no more, and says so.
    pub(super) fn block(&mut self, blocked: Option<Blocked>) {
        let before = std::mem::replace(&mut self.blocked, blocked);
        if before == blocked {
            self.say_if_hopeless();
            return;
        }
        self.hopeless = false;
        for reason in Blocked::ALL {
            let gauge = &self.metrics.journal.blocked;
            let value = i64::from(blocked == Some(reason));
            gauge.with_label_values(&[reason.as_str()]).set(value);
        }
        self.blocked_sender.send_replace(blocked);
        let (bytes, capacity) = (self.used(), self.capacity);
        match blocked {
            None => tracing::info!(bytes, "the journal takes events again: the feed is read on"),
            Some(Blocked::Full) => {
                tracing::error!(
                    bytes,
                    capacity,
                    "the journal is full: it takes no events until the sinks have caught up; look \
                     at the sinks, or raise journal.max_bytes"
                );
                self.say_if_hopeless();
            }
            Some(Blocked::DiskFull) => tracing::error!(
                path = %self.path.display(),
                "the disk is full: the journal takes no events until there is room; nothing that \
                 it was given is lost while this process lives; make room on the disk"
            ),
            Some(Blocked::Locked) => tracing::error!(
                path = %self.path.display(),
                "another process holds the journal's write lock: it takes no events until that \
                 one lets go"
            ),
        }
    }

    /// A full file of which nothing can go will stay full: that is for an operator to mend.
    fn say_if_hopeless(&mut self) {
        let can_go = self.metrics.journal.records.get() > 0;
        if self.blocked != Some(Blocked::Full) || can_go || self.hopeless {
            return;
        }
        self.hopeless = true;
        let sql = "SELECT count(*) FROM users";
        let users: u64 = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_default();
        tracing::error!(
            bytes = self.used(),
            capacity = self.capacity,
            users,
            "journal.max_bytes is too small: every sink has every record, and the state of the \
             users alone, which is never pruned, fills it; raise journal.max_bytes"
        );
    }
}
