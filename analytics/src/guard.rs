//! Which SQL is let in: one reading statement, bounded before anything recursive looks at it.
//!
//! Tokens are counted first, because a parser, a planner and a printer all recurse over what they get: 20,000
//! terms of OR or 5,000 UNIONs overflow a stack whatever the engine's options say.

use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::QueryError;

/// Most operators (OR, AND, comparisons, arithmetic): each is a level of a tree.
const OPERATORS_MAX: usize = 2_000;
/// Most set operations and SELECTs; each is a level of a plan.
const SELECTS_MAX: usize = 100;
/// Most tokens.
const TOKENS_MAX: usize = 50_000;
/// Deepest nesting that the parser follows.
const DEPTH_MAX: usize = 50;

/// Parses one statement of at most `bytes_max` bytes that only reads.
pub(crate) fn admit(sql: &str, bytes_max: usize) -> Result<DfStatement, QueryError> {
    fits(sql, bytes_max)?;
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|error| invalid(error.to_string()))?;
    count(&tokens)?;
    let mut parser = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(DEPTH_MAX)
        .build()
        .map_err(QueryError::from)?;
    let mut statements = parser.parse_statements().map_err(QueryError::from)?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => allow(&statement).map(|()| statement),
        (None, _) => Err(invalid("there is no statement")),
        (Some(_), false) => Err(invalid("one statement at a time")),
    }
}

/// Whether a text has at most `bytes_max` bytes.
pub(crate) fn fits(sql: &str, bytes_max: usize) -> Result<(), QueryError> {
    if sql.len() <= bytes_max {
        return Ok(());
    }
    Err(invalid(format!(
        "SQL of {} bytes exceeds the limit of {bytes_max}",
        sql.len()
    )))
}

fn allow(statement: &DfStatement) -> Result<(), QueryError> {
    let allowed = match statement {
        DfStatement::Statement(statement) => reads(statement),
        DfStatement::Explain(explain) => return allow(&explain.statement),
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(invalid(
        "only SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, SHOW TABLES and SHOW COLUMNS are allowed",
    ))
}

fn reads(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => query_reads(query),
        Statement::ExplainTable { .. } | Statement::ShowTables { .. } | Statement::ShowColumns { .. } => true,
        Statement::Explain { statement, .. } => reads(statement),
        _ => false,
    }
}

fn query_reads(query: &datafusion::sql::sqlparser::ast::Query) -> bool {
    use datafusion::sql::sqlparser::ast::SetExpr;
    fn body(expression: &SetExpr) -> bool {
        match expression {
            SetExpr::Select(select) => select.into.is_none(),
            SetExpr::Query(query) => query_reads(query),
            SetExpr::SetOperation { left, right, .. } => body(left) && body(right),
            SetExpr::Values(_) | SetExpr::Table(_) => true,
            _ => false,
        }
    }
    let with = query.with.as_ref();
    with.is_none_or(|with| !with.recursive && with.cte_tables.iter().all(|cte| query_reads(&cte.query)))
        && body(&query.body)
}

fn count(tokens: &[Token]) -> Result<(), QueryError> {
    let (mut operators, mut selects, mut total) = (0, 0, 0);
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Word(word) => match word.keyword {
                Keyword::OR
                | Keyword::AND
                | Keyword::NOT
                | Keyword::LIKE
                | Keyword::BETWEEN
                | Keyword::IN => {
                    operators += 1;
                }
                Keyword::SELECT | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => {
                    selects += 1;
                }
                _ => {}
            },
            Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            Token::LParen | Token::RParen | Token::SemiColon => {}
            _ => operators += 1,
        }
        total += 1;
    }
    bound("operators", operators, OPERATORS_MAX)?;
    bound("SELECTs, JOINs and set operations", selects, SELECTS_MAX)?;
    bound("tokens", total, TOKENS_MAX)
}

fn bound(what: &str, found: usize, limit: usize) -> Result<(), QueryError> {
    if found <= limit {
        return Ok(());
    }
    Err(invalid(format!(
        "SQL with {found} {what} exceeds the limit of {limit}"
    )))
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::Invalid(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(sql: &str) -> Result<DfStatement, QueryError> {
        super::admit(sql, 256 << 10)
    }

    #[test]
    fn only_one_reading_statement_is_let_in() {
        for sql in [
            "SELECT 1",
            "select * from s where a > 1;",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1, 2)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "DESCRIBE s",
            "SELECT 1 UNION ALL SELECT 2",
        ] {
            assert!(admit(sql).is_ok(), "{sql}: {:?}", admit(sql).err());
        }
        for sql in [
            "",
            "SELECT 1; SELECT 2",
            "INSERT INTO s VALUES (1)",
            "DROP TABLE s",
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'",
            "COPY s TO '/tmp/x'",
            "SET datafusion.execution.batch_size = 1",
            "CREATE VIEW v AS SELECT 1",
            "SELECT 1 INTO t",
            "EXPLAIN INSERT INTO s VALUES (1)",
            "EXPLAIN CREATE TABLE t AS SELECT 1",
            "PREPARE p AS SELECT 1",
            "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a",
            "TRUNCATE s",
            "DELETE FROM s",
        ] {
            assert!(admit(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn what_would_overflow_a_stack_is_refused_before_it_is_parsed() {
        let ors = format!("SELECT {}", vec!["1=1"; 20_000].join(" OR "));
        let unions = vec!["SELECT 1"; 5_000].join(" UNION ALL ");
        let parentheses = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
        let minus = format!("SELECT {}1", "- ".repeat(10_000));
        for sql in [ors, unions, parentheses, minus] {
            assert!(admit(&sql).is_err(), "{}", &sql[..40]);
        }
    }
}
