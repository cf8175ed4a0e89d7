//! Groups and measures. One pass over the table: memory grows with the groups, not with the rows.

use std::collections::BTreeMap;

use csv::{ReaderBuilder, StringRecord};

use crate::bindings::exports::example::report::tables::{
    Cell, Error, Group, Measure, Query, Summary,
};

/// The names of the columns.
pub fn columns(table: &[u8]) -> Result<Vec<String>, Error> {
    Ok(header(&mut reader(table))?.iter().map(str::to_owned).collect())
}

/// Answers `query`.
pub fn summarize(table: &[u8], query: &Query) -> Result<Summary, Error> {
    let mut reader = reader(table);
    let header = header(&mut reader)?;
    let keys = query
        .group_by
        .iter()
        .map(|column| position(&header, column))
        .collect::<Result<Vec<_>, _>>()?;
    let measured = query
        .measures
        .iter()
        .map(|measure| column(measure).map(|column| position(&header, column)).transpose())
        .collect::<Result<Vec<_>, _>>()?;

    let fresh = vec![Tally::default(); measured.len()];
    let mut groups: BTreeMap<Vec<String>, Vec<Tally>> = BTreeMap::new();
    let mut total = fresh.clone();
    for row in reader.records() {
        let row = row.map_err(malformed)?;
        let key = keys.iter().map(|at| row[*at].to_owned()).collect();
        let group = groups.entry(key).or_insert_with(|| fresh.clone());
        for (index, column) in measured.iter().enumerate() {
            let number = match column {
                Some(at) => number(&row, *at, &header)?,
                None => None,
            };
            group[index].add(number);
            total[index].add(number);
        }
    }

    let values = |tallies: &[Tally]| {
        tallies.iter().zip(&query.measures).map(|(tally, measure)| tally.value(measure)).collect()
    };
    Ok(Summary {
        measures: query.measures.iter().map(title).collect(),
        total: values(&total),
        groups: groups
            .into_iter()
            .map(|(key, tallies)| Group { values: values(&tallies), key })
            .collect(),
    })
}

/// What is known of one column in one group, enough for every measure.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    rows: u64,
    numbers: u64,
    sum: f64,
    least: Option<f64>,
    greatest: Option<f64>,
}

impl Tally {
    fn add(&mut self, number: Option<f64>) {
        self.rows += 1;
        if let Some(number) = number {
            self.numbers += 1;
            self.sum += number;
            self.least = Some(self.least.map_or(number, |least| least.min(number)));
            self.greatest = Some(self.greatest.map_or(number, |greatest| greatest.max(number)));
        }
    }

    fn value(&self, measure: &Measure) -> Option<f64> {
        let some = self.numbers > 0;
        match measure {
            Measure::Count => Some(self.rows as f64),
            Measure::Sum(_) => some.then_some(self.sum),
            Measure::Mean(_) => some.then(|| self.sum / self.numbers as f64),
            Measure::Least(_) => self.least,
            Measure::Greatest(_) => self.greatest,
        }
    }
}

fn column(measure: &Measure) -> Option<&str> {
    match measure {
        Measure::Count => None,
        Measure::Sum(column)
        | Measure::Mean(column)
        | Measure::Least(column)
        | Measure::Greatest(column) => Some(column),
    }
}

fn title(measure: &Measure) -> String {
    match measure {
        Measure::Count => "count".to_owned(),
        Measure::Sum(column) => format!("sum of {column}"),
        Measure::Mean(column) => format!("mean of {column}"),
        Measure::Least(column) => format!("least {column}"),
        Measure::Greatest(column) => format!("greatest {column}"),
    }
}

fn reader(table: &[u8]) -> csv::Reader<&[u8]> {
    ReaderBuilder::new().trim(csv::Trim::All).from_reader(table)
}

fn header(reader: &mut csv::Reader<&[u8]>) -> Result<StringRecord, Error> {
    let header = reader.headers().map_err(malformed)?.clone();
    if header.is_empty() { Err(Error::EmptyTable) } else { Ok(header) }
}

fn position(header: &StringRecord, column: &str) -> Result<usize, Error> {
    let found = header.iter().position(|name| name == column);
    found.ok_or_else(|| Error::UnknownColumn(column.to_owned()))
}

fn number(row: &StringRecord, at: usize, header: &StringRecord) -> Result<Option<f64>, Error> {
    let content = &row[at];
    if content.is_empty() {
        return Ok(None);
    }
    // `NaN` and `inf` are numbers to Rust, and not to whoever filled in the table.
    content.parse().ok().filter(|number: &f64| number.is_finite()).map(Some).ok_or_else(|| {
        Error::NotANumber(Cell {
            line: row.position().map_or(0, csv::Position::line),
            column: header[at].to_owned(),
            content: content.to_owned(),
        })
    })
}

fn malformed(error: csv::Error) -> Error {
    Error::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] =
        b"shop,item,amount\nnorth,tea,2\nsouth,tea,3.5\nnorth,salt,\nnorth,tea,4\n";

    fn query(group_by: &[&str], measures: Vec<Measure>) -> Query {
        Query { group_by: group_by.iter().map(|column| (*column).to_owned()).collect(), measures }
    }

    #[test]
    fn groups_are_added_up() {
        let amount = || "amount".to_owned();
        let measures = vec![
            Measure::Count,
            Measure::Sum(amount()),
            Measure::Mean(amount()),
            Measure::Least(amount()),
            Measure::Greatest(amount()),
        ];
        let summary = summarize(TABLE, &query(&["shop"], measures)).unwrap();
        assert_eq!(summary.measures[1], "sum of amount");
        assert_eq!(summary.groups.len(), 2);
        assert_eq!(summary.groups[0].key, ["north"]);
        assert_eq!(summary.groups[0].values, [3.0, 6.0, 3.0, 2.0, 4.0].map(Some));
        assert_eq!(summary.total, [4.0, 9.5, 9.5 / 3.0, 2.0, 4.0].map(Some));
    }

    #[test]
    fn a_group_without_numbers_has_no_sum() {
        let sums = vec![Measure::Sum("amount".to_owned())];
        let summary = summarize(TABLE, &query(&["shop", "item"], sums)).unwrap();
        let salt = summary.groups.iter().find(|group| group.key == ["north", "salt"]).unwrap();
        assert_eq!(salt.values, [None]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let sum = |column: &str| query(&[], vec![Measure::Sum(column.to_owned())]);
        let unknown = summarize(TABLE, &sum("price")).unwrap_err();
        assert!(matches!(unknown, Error::UnknownColumn(column) if column == "price"));
        match summarize(TABLE, &sum("item")).unwrap_err() {
            Error::NotANumber(cell) => {
                assert_eq!(
                    (cell.line, cell.column.as_str(), cell.content.as_str()),
                    (2, "item", "tea")
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(columns(b"").unwrap_err(), Error::EmptyTable));
        assert!(matches!(summarize(b"a,b\n1\n", &sum("a")).unwrap_err(), Error::Malformed(_)));
    }
}
