//! stub
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// x
    A,
}
impl FrameKind {
    /// x
    pub const ALL: [Self; 1] = [Self::A];
    /// x
    pub const fn as_str(self) -> &'static str {
        "event"
    }
}
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// x
    A,
}
impl LostReason {
    /// x
    pub const ALL: [Self; 1] = [Self::A];
    /// x
    pub const fn as_str(self) -> &'static str {
        "idle"
    }
}
