//! What is known of each user.

/// A field of a user that the record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum FieldName {
    AccountType,
    AccountRole,
    Email,
    FirstName,
    LastName,
    PhoneNumber,
    Status,
    Requirements,
}

impl FieldName {
    /// Every field, in the order of the record.
    pub const ALL: [Self; 8] = [
        Self::AccountType,
        Self::AccountRole,
        Self::Email,
        Self::FirstName,
        Self::LastName,
        Self::PhoneNumber,
        Self::Status,
        Self::Requirements,
    ];

    /// The name in the record and in `privacy.fields`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountType => "account_type",
            Self::AccountRole => "account_role",
            Self::Email => "email",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::PhoneNumber => "phone_number",
            Self::Status => "status",
            Self::Requirements => "requirements",
        }
    }
}
