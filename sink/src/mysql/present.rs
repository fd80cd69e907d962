//! Which ids a table has already, of a stream whose ids are unique.
//!
//! Several ids are asked at once, by the key. Ids are compared here byte by byte: a table that somebody else made may
//! take `a` and `A` for one, and then what it says about such a row is a refusal that nobody should miss.

use std::collections::HashMap;
use std::ops::Range;

use mysql_async::prelude::Queryable;

use super::error::failed;
use super::session::MysqlSession;
use super::text::literal;
use crate::database::unique::{IdText, for_each_id};
use crate::database::{DatabaseError, Rows, TargetTable};

/// Most ids of one question.
const IDS_MAX: usize = 2_000;

const OPERATION: &str = "look for ids";

/// Numbers of the rows of a range whose id is in the table, in order.
pub(super) async fn present(
    session: &mut MysqlSession,
    table: &TargetTable,
    rows: &Rows,
    range: Range<usize>,
) -> Result<Vec<usize>, DatabaseError> {
    let Some(column) = table.unique.map(|index| &table.columns[index]) else {
        return Ok(Vec::new());
    };
    let mut numbers: HashMap<Vec<u8>, usize> = HashMap::with_capacity(range.len());
    let mut questions = Vec::new();
    // A question about one row is about what somebody else has just written: the newest version counts, locked.
    let tail = if range.len() == 1 {
        ") LOCK IN SHARE MODE"
    } else {
        ")"
    };
    let head = format!(
        "SELECT CAST(`{0}` AS CHAR) FROM `{1}` WHERE `{0}` IN (",
        column.name, table.name
    );
    let limit = session.statement_bytes();
    let (mut question, mut ids) = (head.clone().into_bytes(), 0);
    for_each_id(table, rows, range, |number, id| {
        let begin = question.len();
        if ids > 0 {
            question.push(b',');
        }
        let text = match id {
            IdText::Text(text) => {
                literal(&mut question, text);
                text.as_bytes().to_vec()
            }
            IdText::Int(id) => {
                let text = id.to_string().into_bytes();
                question.extend_from_slice(&text);
                text
            }
        };
        ids += 1;
        if ids > IDS_MAX || (ids > 1 && question.len() + tail.len() > limit) {
            // What was just written begins the next question, without its comma.
            let next = [head.as_bytes(), &question[begin + 1..]].concat();
            question.truncate(begin);
            question.extend_from_slice(tail.as_bytes());
            questions.push(std::mem::replace(&mut question, next));
            ids = 1;
        }
        numbers.insert(text, number);
    });
    if ids > 0 {
        question.extend_from_slice(tail.as_bytes());
        questions.push(question);
    }
    let mut present = Vec::new();
    for question in questions {
        let found: Vec<Vec<u8>> = session
            .conn
            .query(question)
            .await
            .map_err(|error| failed(OPERATION, &error))?;
        present.extend(found.iter().filter_map(|id| numbers.get(id)));
    }
    present.sort_unstable();
    Ok(present)
}
