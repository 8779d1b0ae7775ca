//! Statements of many rows. What a statement costs beside its rows, two changes of threads with SQLite and a round trip
//! with PostgreSQL, is paid once for all of them.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AssertSqlSafe, FromRow, Transaction};

use super::IndexError;
use super::database::Dialect;

/// Rows of one statement. The sizes are few, so that a connection has all of its statements prepared.
const SIZES: [usize; 3] = [64, 8, 1];

pub(super) type Query = sqlx::query::Query<'static, Any, AnyArguments>;

/// Runs a statement over rows, in their order. `{rows}` in it stands for them, as after `VALUES`.
pub(super) async fn write<T>(
    tx: &mut Transaction<'static, Any>,
    dialect: Dialect,
    (sql, columns): (&str, usize),
    rows: &[T],
    bind: impl Fn(Query, &T) -> Query,
) -> Result<(), IndexError> {
    for piece in pieces(rows) {
        let mut query = sqlx::query(text(dialect, sql, piece.len(), columns));
        for row in piece {
            query = bind(query, row);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// The same for a statement that answers.
pub(super) async fn read<T, R>(
    tx: &mut Transaction<'static, Any>,
    dialect: Dialect,
    (sql, columns): (&str, usize),
    rows: &[T],
    bind: impl Fn(Query, &T) -> Query,
) -> Result<Vec<R>, IndexError>
where
    R: for<'r> FromRow<'r, AnyRow> + Send + Unpin,
{
    let mut answer = Vec::new();
    for piece in pieces(rows) {
        let mut query = sqlx::query(text(dialect, sql, piece.len(), columns));
        for row in piece {
            query = bind(query, row);
        }
        answer.extend(query.try_map(|row: AnyRow| R::from_row(&row)).fetch_all(&mut **tx).await?);
    }
    Ok(answer)
}

fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rest.len())?;
        let (piece, after) = rest.split_at(size);
        rest = after;
        Some(piece)
    })
}

fn text(dialect: Dialect, sql: &str, rows: usize, columns: usize) -> AssertSqlSafe<String> {
    let mut places = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        places += if row == 0 { "(" } else { "), (" };
        for column in 0..columns {
            if column > 0 {
                places += ", ";
            }
            match dialect {
                // Places with names are looked for one by one, each time.
                Dialect::Sqlite => places.push('?'),
                Dialect::Postgres => places += &format!("${}", row * columns + column + 1),
            }
        }
    }
    places.push(')');
    AssertSqlSafe(sql.replace("{rows}", &places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_divided_in_their_order_and_none_is_left_out() {
        for count in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            let rows: Vec<usize> = (0..count).collect();
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
            assert!(pieces(&rows).all(|piece| SIZES.contains(&piece.len())));
        }
    }

    #[test]
    fn each_value_has_its_place() {
        let AssertSqlSafe(sql) = text(Dialect::Postgres, "INSERT INTO t VALUES {rows}", 2, 2);
        assert_eq!(sql, "INSERT INTO t VALUES ($1, $2), ($3, $4)");
        let AssertSqlSafe(sql) = text(Dialect::Sqlite, "VALUES {rows}", 1, 3);
        assert_eq!(sql, "VALUES (?, ?, ?)");
    }
}
