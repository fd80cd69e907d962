//! Hands events to people, and keeps who has what.
//!
//! People say that they are there ([`Desk::begin`]), and events come to them one after the other, each to exactly one
//! of them, who says what became of it ([`Desk::settle`]) and is free for the next. Nobody has more than
//! [`AssignOptions::limit`] open ones; when somebody goes, what was open goes to others. Each step is answered to
//! whoever sent the event.
//!
//! ```text
//!            stream of the journal │ queue of RabbitMQ                 where events come from
//!                                  ▼
//!   POST …/active ──► sessions ──► choice: least loaded, then longest without  (memory │ Redis)
//!                                  ▼
//!   PUT /assignments/… ──► assignments, each step with its answer       (stream of the journal │ PostgreSQL)
//!                                  ▼
//!                     stream of the journal │ queue of RabbitMQ          where answers go
//! ```
//!
//! Two desks keep the same promises: [`embedded`] needs nothing but the journal and is one process; [`servers`] shares
//! the work among processes around PostgreSQL, Redis and RabbitMQ.
//!
//! # Promises
//! - A-1 an event, by its id, has at most one assignment that is not `reassigned`, whatever is killed
//! - A-2 an event stays where it came from until its assignment is durable; a person has it then, or it waits
//! - A-3 nobody has more open assignments than the limit: the step that opens one counts under a lock
//! - A-4 a step and its answer are one atomic step; an answer is sent until its receiver has it
//!
//! # Fair choice
//! The person with the fewest open assignments gets the next event; among equals the one who has waited longest
//! since the last one.
//!
//! What an event means is nobody's business here: it is an id and a text.

mod desk;
pub mod embedded;
mod error;
pub mod http;
mod options;
mod retry;
pub mod servers;
mod settled;
mod subject;

pub use desk::{Assign, Desk, Health, Session};
pub use error::AssignError;
pub use options::AssignOptions;
pub use settled::{Settled, Settlement, Status};
