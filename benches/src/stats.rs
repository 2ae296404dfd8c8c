//! Order statistics and the table.

/// The value below which `share` of the values lie.
pub fn percentile(values: &[u64], share: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or(0)
}

/// Median of `a[i] / b[i]`: rounds are compared with themselves, so that slow moments of the machine cancel out.
pub fn paired_ratio(a: &[u64], b: &[u64]) -> f64 {
    let mut ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| *a as f64 / (*b).max(1) as f64).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds as microseconds, with a digit behind the point only when it says something.
pub fn us(ns: u64) -> String {
    if ns < 100_000 { format!("{:.1}", ns as f64 / 1e3) } else { format!("{:.0}", ns as f64 / 1e3) }
}

/// A markdown table whose columns are aligned for readers of the source as well.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().map(|row| row.get(column).map_or(0, String::len)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            out += &format!("| {cell:width$} ");
        }
        out += "|\n";
        if number == 0 {
            for width in &widths {
                out += &format!("|{}", "-".repeat(width + 2));
            }
            out += "|\n";
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics() {
        let values: Vec<u64> = (0..100).rev().collect();
        assert_eq!(percentile(&values, 0.5), 50);
        assert_eq!(percentile(&values, 0.99), 99);
        assert_eq!(percentile(&values, 0.0), 0);
        assert_eq!(percentile(&[], 0.5), 0);
        assert_eq!(paired_ratio(&[2, 40, 9], &[1, 10, 3]), 3.0);
    }

    #[test]
    fn tables_have_a_rule_below_the_head() {
        let rows = vec![vec!["a".into(), "bcd".into()], vec!["long".into(), "1".into()]];
        assert_eq!(table(&rows), "| a    | bcd |\n|------|-----|\n| long | 1   |\n");
    }
}
