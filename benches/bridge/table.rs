//! Medians and spreads, as rows of Markdown.

/// The middle, the lowest and the highest of some figures.
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median: at(sorted.len() / 2),
            low: at(0),
            high: at(sorted.len().saturating_sub(1)),
        }
    }

    pub(crate) fn words(&self, decimals: usize) -> String {
        let number = |figure: f64| grouped(figure, decimals);
        format!(
            "{} ({}–{})",
            number(self.median),
            number(self.low),
            number(self.high)
        )
    }
}

/// With a comma between thousands.
fn grouped(figure: f64, decimals: usize) -> String {
    let text = format!("{figure:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

pub(crate) fn title(words: &str, columns: &[&str]) {
    say(&format!(
        "\n{words}\n\n| | {} |\n|{}",
        columns.join(" | "),
        " --- |".repeat(columns.len() + 1)
    ));
}

pub(crate) fn row(name: &str, cells: &[String]) {
    say(&format!("| {name} | {} |", cells.join(" | ")));
}

pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The share of the figures below which `percent` of them lie; sorts them.
pub(crate) fn percentile(figures: &mut [f64], percent: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let index = (figures.len() as f64 * percent / 100.0) as usize;
    figures
        .get(index.min(figures.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
