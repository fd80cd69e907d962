//! What becomes of an assignment.

/// Where an assignment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its person works on it.
    Open,
    /// Done.
    Completed,
    /// Not to be done.
    Rejected,
    /// Its person went, and another one has the event in an assignment of its own.
    Reassigned,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Open, Self::Completed, Self::Rejected, Self::Reassigned];

    /// As it is stored and said.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Reassigned => "reassigned",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// How a person ends an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done.
    Completed,
    /// Not to be done.
    Rejected,
}

impl Settlement {
    /// The settlement of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "completed" => Some(Self::Completed),
            "rejected" => Some(Self::Rejected),
            _ => None,
        }
    }

    /// The status that an assignment has then.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Rejected => Status::Rejected,
        }
    }
}

/// Whether this request ended the assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It did.
    Now,
    /// An earlier one did, in the same way.
    Before,
}
