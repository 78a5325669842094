//! Line charts as SVG.

use std::fmt::Write;

/// A chart.
pub struct Chart<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// What the horizontal axis is, and how it is divided.
    pub x: (&'a str, Scale),
    /// The same of the vertical one, which begins at 0 when it is linear.
    pub y: (&'a str, Scale),
    /// What is drawn.
    pub series: Vec<Series>,
}

/// How an axis is divided.
#[derive(Clone, Copy)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// Each step is so many times the one before.
    Log(f64),
}

/// A line.
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    look: Look,
}

#[derive(Clone, Copy, PartialEq)]
enum Look {
    Solid,
    Dashed,
    Dotted,
}

impl Series {
    /// A plain line.
    pub fn solid(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_owned(), points, look: Look::Solid }
    }

    /// A line that nothing was measured for.
    pub fn dashed(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { look: Look::Dashed, ..Series::solid(name, points) }
    }

    /// A line with a dot at each point.
    pub fn dotted(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { look: Look::Dotted, ..Series::solid(name, points) }
    }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 440.0;
/// Left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (56.0, 236.0, 40.0, 48.0);
/// Told apart by people who do not see all colours, too (Okabe and Ito, 2008).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"];

impl Scale {
    /// Where a number stands between `least` (0) and `most` (1).
    fn place(self, number: f64, (least, most): (f64, f64)) -> f64 {
        match self {
            Scale::Linear => (number - least) / (most - least),
            Scale::Log(_) => (number.max(least) / least).ln() / (most / least).ln(),
        }
    }

    /// From where to where an axis goes that has all these on it.
    fn range(self, numbers: impl Iterator<Item = f64>) -> (f64, f64) {
        let (least, most) =
            numbers.fold((f64::MAX, f64::MIN), |(least, most), n| (least.min(n), most.max(n)));
        match self {
            Scale::Linear => (0.0, if most > 0.0 { most * 1.02 } else { 1.0 }),
            Scale::Log(base) => {
                let least = (least.max(1e-9).log(base) + 1e-9).floor();
                let most = (most.max(1e-9).log(base) - 1e-9).ceil().max(least + 1.0);
                (base.powf(least), base.powf(most))
            }
        }
    }

    fn ticks(self, (least, most): (f64, f64)) -> Vec<f64> {
        match self {
            Scale::Linear => {
                let rough = most / 6.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= most).collect()
            }
            Scale::Log(base) => {
                let count = (most / least).log(base).round() as i32;
                (0..=count).map(|n| least * base.powi(n)).collect()
            }
        }
    }
}

impl Chart<'_> {
    /// The picture.
    pub fn svg(&self) -> String {
        let (left, right, top, bottom) = MARGINS;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs = self.x.1.range(points().map(|point| point.0));
        let ys = self.y.1.range(points().map(|point| point.1));
        let x = |number| left + self.x.1.place(number, xs) * (WIDTH - left - right);
        let y = |number| HEIGHT - bottom - self.y.1.place(number, ys) * (HEIGHT - top - bottom);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut svg, ((left + WIDTH - right) / 2.0, 22.0), "middle", "font-size=\"15\"", self.title);
        for tick in self.x.1.ticks(xs) {
            line(&mut svg, (x(tick), top), (x(tick), HEIGHT - bottom));
            text(&mut svg, (x(tick), HEIGHT - bottom + 16.0), "middle", "", &number(tick));
        }
        for tick in self.y.1.ticks(ys) {
            line(&mut svg, (left, y(tick)), (WIDTH - right, y(tick)));
            text(&mut svg, (left - 6.0, y(tick) + 4.0), "end", "", &number(tick));
        }
        text(&mut svg, ((left + WIDTH - right) / 2.0, HEIGHT - 12.0), "middle", "", self.x.0);
        let turned = format!("transform=\"rotate(-90 16 {})\"", HEIGHT / 2.0);
        text(&mut svg, (16.0, HEIGHT / 2.0), "middle", &turned, self.y.0);
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let path: Vec<String> =
                series.points.iter().map(|&(px, py)| format!("{:.1},{:.1}", x(px), y(py))).collect();
            let dashes = if series.look == Look::Dashed { " stroke-dasharray=\"6 4\"" } else { "" };
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                path.join(" ")
            );
            if series.look == Look::Dotted {
                for &(px, py) in &series.points {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                        x(px),
                        y(py)
                    );
                }
            }
            let row = top + 18.0 + at as f64 * 18.0;
            let _ = writeln!(
                svg,
                "<line x1=\"{0}\" y1=\"{row}\" x2=\"{1}\" y2=\"{row}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"{dashes}/>",
                WIDTH - right + 12.0,
                WIDTH - right + 40.0
            );
            text(&mut svg, (WIDTH - right + 46.0, row + 4.0), "start", "", &series.name);
        }
        svg + "</svg>\n"
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, more: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>",
        at.0, at.1
    );
}

fn number(number: f64) -> String {
    if number >= 1e6 && number % 1e6 == 0.0 {
        format!("{},000,000", number / 1e6)
    } else if number >= 10_000.0 && number % 1000.0 == 0.0 {
        format!("{},000", number / 1000.0)
    } else if number.fract().abs() < 1e-9 {
        format!("{number:.0}")
    } else {
        format!("{number:.3}").trim_end_matches('0').to_owned()
    }
}
