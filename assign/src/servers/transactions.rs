//! Each step of an assignment as one transaction.
//!
//! Locks are taken in one order, so that no two transactions wait for each other: first the rows of people, by name,
//! then the row of the assignment. A person's count changes under the lock of its row and only together with the row
//! that it counts.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Transaction};

use super::database::{Load, failed};
use crate::subject::{Answer, Subject};
use crate::{AssignError, Settled, Settlement, Status};

/// A new assignment.
pub(super) struct New<'a> {
    pub(super) id: &'a str,
    pub(super) user: &'a str,
    pub(super) limit: i32,
    /// The name of the field that has the event's id.
    pub(super) id_field: &'a str,
    /// Microseconds since 1970 UTC.
    pub(super) at: i64,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Inserted {
    /// It is the person's.
    Assigned(Load),
    /// It was assigned before.
    Known,
    /// The person has no room.
    Full(Load),
}

/// What became of an assignment whose person went.
#[derive(Debug)]
pub(super) enum Moved {
    /// It is somebody else's.
    Done { from: Load, to: Load },
    /// It has ended meanwhile.
    Ended,
    /// The other one has no room.
    Full(Load),
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database does not take these values, and never will.
    Refused(String),
    /// Whether it was done is not certain.
    Failed(AssignError),
}

const FULL: &str = "SELECT open, version FROM assignees WHERE user_id = $1";
const ANSWER: &str = "INSERT INTO assignment_answers (body) VALUES ($1)";

/// Gives an event to a person.
pub(super) async fn insert(
    client: &mut Client,
    subject: &Subject,
    new: &New<'_>,
) -> Result<Inserted, Failure> {
    let told = |error: Error| judged("insert an assignment", &error);
    let transaction = client.transaction().await.map_err(told)?;
    let Some(load) = take_place(&transaction, new).await.map_err(told)? else {
        let load = load_of(&transaction, new.user).await.map_err(told)?;
        transaction.rollback().await.map_err(told)?;
        return Ok(Inserted::Full(load));
    };
    let insert = "INSERT INTO assignments (assignment_id, event_id, user_id, event) VALUES ($1, $2, $3, $4::json) \
        ON CONFLICT (event_id) WHERE status <> 'reassigned' DO NOTHING";
    let (event_id, event) = (&*subject.id, &*subject.event);
    let values = [text(&new.id), text(&event_id), text(&new.user), text(&event)];
    if transaction.execute_typed(insert, &values).await.map_err(told)? == 0 {
        transaction.rollback().await.map_err(told)?;
        return Ok(Inserted::Known);
    }
    say_assigned(&transaction, new, event_id).await.map_err(told)?;
    transaction.commit().await.map_err(told)?;
    Ok(Inserted::Assigned(load))
}

/// Ends an assignment.
pub(super) async fn settle(
    client: &mut Client,
    id: &str,
    how: Settlement,
    id_field: &str,
    at: i64,
) -> Result<(Settled, Option<Load>), AssignError> {
    const OPERATION: &str = "end an assignment";
    let told = |error: Error| failed(OPERATION, &error);
    let status = how.status().as_str();
    let transaction = client.transaction().await.map_err(told)?;
    let whose = "SELECT user_id FROM assignments WHERE assignment_id = $1";
    let found = transaction
        .query_typed_opt(whose, &[text(&id)])
        .await
        .map_err(told)?;
    let Some(found) = found else {
        transaction.rollback().await.map_err(told)?;
        return Err(AssignError::Unknown);
    };
    let user: String = found.try_get(0).map_err(told)?;
    let lock = "SELECT 1 FROM assignees WHERE user_id = $1 FOR UPDATE";
    transaction
        .query_typed(lock, &[text(&user)])
        .await
        .map_err(told)?;
    let end = "UPDATE assignments SET status = $2, ended_at = now() \
        WHERE assignment_id = $1 AND status = 'open' RETURNING event_id";
    let ended = transaction
        .query_typed_opt(end, &[text(&id), text(&status)])
        .await
        .map_err(told)?;
    let Some(ended) = ended else {
        let was = "SELECT status FROM assignments WHERE assignment_id = $1";
        let was = transaction
            .query_typed_one(was, &[text(&id)])
            .await
            .map_err(told)?;
        let was: String = was.try_get(0).map_err(told)?;
        transaction.rollback().await.map_err(told)?;
        return match Status::parse(&was) {
            Some(was) if was == how.status() => Ok((Settled::Before, None)),
            Some(was) => Err(AssignError::Ended(was)),
            None => Err(super::database::unavailable(
                OPERATION,
                format!("the status is `{was}`"),
            )),
        };
    };
    let event_id: String = ended.try_get(0).map_err(told)?;
    let load = free_place(&transaction, &user).await.map_err(told)?;
    let answer = Answer {
        id_field,
        event: &event_id,
        status,
        assignment: id,
        user: &user,
        at,
    };
    let answer = answer.json();
    transaction
        .execute_typed(ANSWER, &[text(&answer)])
        .await
        .map_err(told)?;
    transaction.commit().await.map_err(told)?;
    Ok((Settled::Now, Some(load)))
}

/// Takes an assignment from somebody who went, and gives its event to somebody else.
pub(super) async fn move_on(
    client: &mut Client,
    old: &str,
    from: &str,
    new: &New<'_>,
) -> Result<Moved, AssignError> {
    let told = |error: Error| failed("move an assignment", &error);
    let transaction = client.transaction().await.map_err(told)?;
    let known = "INSERT INTO assignees (user_id) VALUES ($1) ON CONFLICT DO NOTHING";
    transaction
        .execute_typed(known, &[text(&new.user)])
        .await
        .map_err(told)?;
    let lock = "SELECT 1 FROM assignees WHERE user_id IN ($1, $2) ORDER BY user_id FOR UPDATE";
    transaction
        .query_typed(lock, &[text(&from), text(&new.user)])
        .await
        .map_err(told)?;
    let end = "UPDATE assignments SET status = 'reassigned', ended_at = now() \
        WHERE assignment_id = $1 AND user_id = $2 AND status = 'open' RETURNING event_id";
    let ended = transaction
        .query_typed_opt(end, &[text(&old), text(&from)])
        .await
        .map_err(told)?;
    let Some(ended) = ended else {
        transaction.rollback().await.map_err(told)?;
        return Ok(Moved::Ended);
    };
    let event_id: String = ended.try_get(0).map_err(told)?;
    let Some(to) = take_place(&transaction, new).await.map_err(told)? else {
        let load = load_of(&transaction, new.user).await.map_err(told)?;
        transaction.rollback().await.map_err(told)?;
        return Ok(Moved::Full(load));
    };
    let from = free_place(&transaction, from).await.map_err(told)?;
    let insert = "INSERT INTO assignments (assignment_id, event_id, user_id, event) \
        SELECT $1, event_id, $2, event FROM assignments WHERE assignment_id = $3";
    let values = [text(&new.id), text(&new.user), text(&old)];
    transaction.execute_typed(insert, &values).await.map_err(told)?;
    say_assigned(&transaction, new, &event_id).await.map_err(told)?;
    transaction.commit().await.map_err(told)?;
    Ok(Moved::Done { from, to })
}

/// One more for somebody, unless there is no room.
async fn take_place(transaction: &Transaction<'_>, new: &New<'_>) -> Result<Option<Load>, Error> {
    let take = "INSERT INTO assignees AS known (user_id, open, version) VALUES ($1, 1, 1) \
        ON CONFLICT (user_id) DO UPDATE SET open = known.open + 1, version = known.version + 1 \
        WHERE known.open < $2 RETURNING open, version";
    let row = transaction
        .query_typed_opt(take, &[text(&new.user), (&new.limit, Type::INT4)])
        .await?;
    row.map(|row| load(new.user, &row)).transpose()
}

/// One less.
async fn free_place(transaction: &Transaction<'_>, user: &str) -> Result<Load, Error> {
    let free = "UPDATE assignees SET open = greatest(open - 1, 0), version = version + 1 WHERE user_id = $1 \
        RETURNING open, version";
    let row = transaction.query_typed_one(free, &[text(&user)]).await?;
    load(user, &row)
}

async fn load_of(transaction: &Transaction<'_>, user: &str) -> Result<Load, Error> {
    let row = transaction.query_typed_one(FULL, &[text(&user)]).await?;
    load(user, &row)
}

async fn say_assigned(transaction: &Transaction<'_>, new: &New<'_>, event_id: &str) -> Result<(), Error> {
    let answer = Answer {
        id_field: new.id_field,
        event: event_id,
        status: "assigned",
        assignment: new.id,
        user: new.user,
        at: new.at,
    };
    let answer = answer.json();
    transaction
        .execute_typed(ANSWER, &[text(&answer)])
        .await
        .map(drop)
}

/// Keeps a message that is no event.
pub(super) async fn refuse(client: &Client, message: &[u8], reason: &str) -> Result<(), Error> {
    // Text of the database has no NUL.
    let reason = reason.replace('\0', "\u{fffd}");
    let insert = "INSERT INTO assignment_refused (message, reason) VALUES ($1, $2)";
    client
        .execute_typed(insert, &[(&message, Type::BYTEA), text(&reason)])
        .await
        .map(drop)
}

/// People with something open whose names come after `after`, in the order of names.
pub(super) async fn loads_after(client: &Client, after: &str, most: i64) -> Result<Vec<Load>, Error> {
    let sql = "SELECT open, version, user_id FROM assignees WHERE open > 0 AND user_id > $1 ORDER BY user_id LIMIT $2";
    loads(
        client
            .query_typed(sql, &[text(&after), (&most, Type::INT8)])
            .await?,
    )
}

/// These people, as far as the database knows them.
pub(super) async fn loads_of(client: &Client, users: &[String]) -> Result<Vec<Load>, Error> {
    let sql = "SELECT open, version, user_id FROM assignees WHERE user_id = ANY($1)";
    loads(client.query_typed(sql, &[(&users, Type::TEXT_ARRAY)]).await?)
}

/// What somebody has open, the oldest first.
pub(super) async fn open_of(client: &Client, user: &str, most: i64) -> Result<Vec<String>, Error> {
    let sql = "SELECT assignment_id FROM assignments WHERE user_id = $1 AND status = 'open' \
        ORDER BY assigned_at, assignment_id LIMIT $2";
    let rows = client
        .query_typed(sql, &[text(&user), (&most, Type::INT8)])
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Makes counts of people right that somebody has changed by hand; says how many were wrong.
pub(super) async fn repair(client: &mut Client) -> Result<u64, Error> {
    let wrong = "SELECT coalesce(known.user_id, counted.user_id) FROM assignees AS known FULL JOIN \
        (SELECT user_id, count(*) AS open FROM assignments WHERE status = 'open' GROUP BY user_id) AS counted \
        ON counted.user_id = known.user_id WHERE coalesce(known.open, 0) <> coalesce(counted.open, 0)";
    let mut repaired = 0;
    for row in client.query_typed(wrong, &[]).await? {
        let user: String = row.try_get(0)?;
        let transaction = client.transaction().await?;
        let known = "INSERT INTO assignees (user_id) VALUES ($1) ON CONFLICT DO NOTHING";
        transaction.execute_typed(known, &[text(&user)]).await?;
        let lock = "SELECT 1 FROM assignees WHERE user_id = $1 FOR UPDATE";
        transaction.query_typed(lock, &[text(&user)]).await?;
        let count = "UPDATE assignees SET version = version + 1, open = counted.open FROM \
            (SELECT count(*)::integer AS open FROM assignments WHERE user_id = $1 AND status = 'open') AS counted \
            WHERE user_id = $1 AND assignees.open <> counted.open";
        repaired += transaction.execute_typed(count, &[text(&user)]).await?;
        transaction.commit().await?;
    }
    Ok(repaired)
}

fn loads(rows: Vec<Row>) -> Result<Vec<Load>, Error> {
    let each = rows.iter().map(|row| {
        let user: String = row.try_get(2)?;
        load(&user, row)
    });
    each.collect()
}

fn load(user: &str, row: &Row) -> Result<Load, Error> {
    Ok(Load {
        user: user.to_owned(),
        open: row.try_get(0)?,
        version: row.try_get(1)?,
    })
}

fn text<T: ToSql + Sync>(value: &T) -> (&(dyn ToSql + Sync), Type) {
    (value, Type::TEXT)
}

/// Whose fault it is, by the class of the SQLSTATE: what is wrong with a value stays wrong.
fn judged(operation: &'static str, error: &Error) -> Failure {
    let said = error.as_db_error();
    let class = said.and_then(|said| said.code().code().get(..2));
    match (class, said) {
        (Some("22" | "54"), Some(said)) => Failure::Refused(said.message().to_owned()),
        _ => Failure::Failed(failed(operation, error)),
    }
}
