//! The abdomen of one phantom case: which tissue lies at a point.
//!
//! Organs are ellipsoids with low-frequency bumps, put together by level functions (negative inside,
//! zero on the surface) and bent by one smooth warp of the whole space. Points are `(z, y, x)`, from -1
//! to 1 across the field of view: z points to the head, y to the back, x to the left of the patient.

use super::draws::Draws;

/// Label values of the phantom, in the order of its `dataset.json`.
pub const BACKGROUND: u8 = 0;
pub const LIVER: u8 = 1;
pub const SPLEEN: u8 = 2;
pub const KIDNEYS: u8 = 3;
pub const LESION: u8 = 4;

/// What a point is made of: Hounsfield units and label.
#[derive(Clone, Copy)]
pub struct Tissue {
    pub hounsfield: f64,
    pub label: u8,
}

type Point = [f64; 3];

/// One sine wave over space.
struct Wave {
    direction: Point,
    phase: f64,
    height: f64,
}

impl Wave {
    fn draw(draws: &mut Draws, frequency: f64, height: f64) -> Self {
        let direction = [0; 3].map(|_| draws.between(-frequency, frequency));
        Self { direction, phase: draws.between(0.0, std::f64::consts::TAU), height }
    }

    fn at(&self, p: Point) -> f64 {
        let angle: f64 = self.direction.iter().zip(p).map(|(d, x)| d * x).sum();
        self.height * (angle + self.phase).sin()
    }
}

/// An ellipsoid with a bumpy surface.
struct Blob {
    centre: Point,
    radius: Point,
    bumps: [Wave; 2],
}

impl Blob {
    /// Varies centre and radii around typical ones, as organs do between patients.
    fn draw(draws: &mut Draws, centre: Point, radius: Point) -> Self {
        let centre = centre.map(|c| c + draws.between(-0.035, 0.035));
        let radius = radius.map(|r| r * draws.between(0.88, 1.12));
        Self { centre, radius, bumps: [Wave::draw(draws, 4.0, 0.06), Wave::draw(draws, 8.0, 0.03)] }
    }

    /// Level in units of the field of view, near enough to a distance close to the surface.
    fn level(&self, p: Point) -> f64 {
        let scaled: Point = std::array::from_fn(|axis| (p[axis] - self.centre[axis]) / self.radius[axis]);
        let reach = scaled.iter().map(|q| q * q).sum::<f64>().sqrt();
        // Far from the surface the bumps decide nothing; most points are far from most organs.
        let near = (0.5..1.8).contains(&reach);
        let bumps: f64 = if near { self.bumps.iter().map(|wave| wave.at(scaled)).sum() } else { 0.0 };
        (reach - 1.0 - bumps) * self.radius.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Smooth union of two levels; `width` is how far the seam is rounded.
fn join(a: f64, b: f64, width: f64) -> f64 {
    let overlap = (width - (a - b).abs()).max(0.0) / width;
    a.min(b) - overlap * overlap * width / 4.0
}

/// One patient.
pub struct Anatomy {
    scale: f64,
    shift: Point,
    warp: [[Wave; 2]; 3],
    wall: [f64; 3],
    liver: [Blob; 2],
    lesion: Blob,
    spleen: Blob,
    kidneys: [Blob; 2],
    stomach: Blob,
    bowel: Vec<(Blob, bool)>,
    domes: [Blob; 2],
    recess: f64,
    vertebra_phase: f64,
    contrast: f64,
}

impl Anatomy {
    /// Draws a patient.
    pub fn draw(draws: &mut Draws) -> Self {
        let warp = [0; 3].map(|_| [Wave::draw(draws, 2.5, 0.03), Wave::draw(draws, 5.0, 0.012)]);
        let muscle = draws.between(0.86, 0.91);
        let right = Blob::draw(draws, [0.10, -0.03, -0.36], [0.60, 0.43, 0.36]);
        let lesion = Blob::draw(draws, right.centre, [0.12; 3]);
        let mut patient = Self {
            scale: draws.between(0.94, 1.06),
            shift: [draws.between(-0.06, 0.06), draws.between(-0.03, 0.03), draws.between(-0.03, 0.03)],
            warp,
            wall: [0.975, muscle, muscle - 0.07],
            lesion,
            liver: [right, Blob::draw(draws, [0.24, -0.26, 0.0], [0.30, 0.19, 0.34])],
            spleen: Blob::draw(draws, [0.24, 0.18, 0.54], [0.34, 0.26, 0.18]),
            kidneys: [
                Blob::draw(draws, [-0.32, 0.27, -0.39], [0.36, 0.17, 0.15]),
                Blob::draw(draws, [-0.22, 0.27, 0.40], [0.36, 0.17, 0.15]),
            ],
            stomach: Blob::draw(draws, [0.16, -0.20, 0.40], [0.30, 0.24, 0.21]),
            bowel: (0..9).map(|loop_index| draw_bowel(draws, loop_index)).collect(),
            domes: [
                Blob::draw(draws, [-0.15, 0.0, -0.38], [0.92, 0.75, 0.50]),
                Blob::draw(draws, [-0.22, 0.0, 0.40], [0.92, 0.75, 0.50]),
            ],
            recess: draws.between(0.30, 0.45),
            vertebra_phase: draws.between(0.0, 1.0),
            contrast: draws.between(-8.0, 8.0),
        };
        let places = std::iter::repeat_with(|| draw_lesion(draws, &patient.liver[0])).take(50);
        if let Some(lesion) = places.into_iter().find(|lesion| patient.liver_surrounds(lesion)) {
            patient.lesion = lesion;
        }
        patient
    }

    fn liver_surrounds(&self, lesion: &Blob) -> bool {
        let reach = lesion.radius.map(|r| 0.9 * r);
        let ends = (0..6).map(|end| {
            let mut p = lesion.centre;
            p[end / 2] += if end % 2 == 0 { reach[end / 2] } else { -reach[end / 2] };
            p
        });
        ends.into_iter().all(|p| matches!(self.inside(p).label, LIVER | LESION))
    }

    /// Tissue at a point; `p` is `(z, y, x)` in fractions of half the field of view.
    pub fn tissue(&self, p: Point) -> Tissue {
        let plain = |hounsfield| Tissue { hounsfield, label: BACKGROUND };
        let p: Point = std::array::from_fn(|axis| (p[axis] - self.shift[axis]) / self.scale);
        let wall = wall_reach(p);
        if wall > 1.0 {
            return plain(-1000.0);
        }
        // The warp bends only what is inside, and fades out towards the skin.
        let fade = 1.0 - wall.powi(4);
        let p: Point = std::array::from_fn(|axis| {
            p[axis] + fade * self.warp[axis].iter().map(|wave| wave.at(p)).sum::<f64>()
        });
        match self.spine(p).or_else(|| self.wall(p, wall)) {
            Some(hounsfield) => plain(hounsfield),
            None => self.inside(p),
        }
    }

    /// Inside the muscles of the wall.
    fn inside(&self, p: Point) -> Tissue {
        let plain = |hounsfield| Tissue { hounsfield, label: BACKGROUND };
        if let Some(hounsfield) = vessels(p, self.contrast) {
            return plain(hounsfield);
        }
        // Two domes; between and beside them the lungs reach down to one level.
        let domes = join(self.domes[0].level(p), self.domes[1].level(p), 0.1);
        let diaphragm = join(domes, p[0] - self.recess, 0.1);
        if diaphragm > 0.0 {
            return plain(-830.0);
        }
        if diaphragm > -0.025 {
            return plain(50.0);
        }
        self.organs(p)
    }

    fn organs(&self, p: Point) -> Tissue {
        let plain = |hounsfield| Tissue { hounsfield, label: BACKGROUND };
        for kidney in &self.kidneys {
            let level = kidney.level(p);
            if level < 0.0 {
                return self.kidney(p, kidney, level);
            }
            if level < 0.03 {
                return plain(-100.0);
            }
        }
        if self.spleen.level(p) < 0.0 {
            return Tissue { hounsfield: 122.0 + self.contrast, label: SPLEEN };
        }
        let liver = join(self.liver[0].level(p), self.liver[1].level(p), 0.12);
        if liver < 0.0 {
            if liver < -0.02 && self.lesion.level(p) < 0.0 {
                return Tissue { hounsfield: 48.0, label: LESION };
            }
            return Tissue { hounsfield: 106.0 + self.contrast, label: LIVER };
        }
        let stomach = self.stomach.level(p);
        if stomach < 0.0 {
            // The patient lies on the back: gas collects in front, above a level surface.
            let gas = p[1] < self.stomach.centre[1] - 0.35 * self.stomach.radius[1];
            return plain(if stomach > -0.025 {
                65.0
            } else if gas {
                -900.0
            } else {
                15.0
            });
        }
        for (bowel, gas) in &self.bowel {
            let level = bowel.level(p);
            if level < 0.0 {
                return plain(if *gas && level < -0.045 { -850.0 } else { 38.0 });
            }
        }
        plain(-98.0)
    }

    /// Cortex brighter than medulla, and fat in the sinus towards the spine. All but the fat is kidney.
    fn kidney(&self, p: Point, kidney: &Blob, level: f64) -> Tissue {
        let medial = -kidney.centre[2].signum();
        let sinus = Blob {
            centre: [kidney.centre[0], kidney.centre[1], kidney.centre[2] + medial * 0.9 * kidney.radius[2]],
            radius: [0.10, 0.045, 0.07],
            bumps: [0; 2].map(|_| Wave { direction: [0.0; 3], phase: 0.0, height: 0.0 }),
        };
        if sinus.level(p) < 0.0 {
            return Tissue { hounsfield: -70.0, label: BACKGROUND };
        }
        let hounsfield = if level > -0.04 { 185.0 } else { 150.0 };
        Tissue { hounsfield: hounsfield + self.contrast, label: KIDNEYS }
    }

    /// Skin, fat, muscle and ribs.
    fn wall(&self, p: Point, reach: f64) -> Option<f64> {
        let [skin, fat, muscle] = self.wall;
        if reach > skin {
            return Some(20.0);
        }
        if reach > fat {
            return Some(-105.0);
        }
        if reach < muscle {
            return None;
        }
        let (sin, cos) = p[2].atan2(p[1]).sin_cos();
        let band = (std::f64::consts::TAU * (3.2 * p[0] + 1.1 * cos + self.vertebra_phase)).cos();
        let rib = band > 0.45 && cos > -0.55 && sin.abs() > 0.35 && p[0] > -0.35;
        let middle = (reach - (muscle + fat) / 2.0).abs() < 0.022;
        Some(if rib && middle { 420.0 } else { 55.0 })
    }

    /// Vertebrae with discs, canal and processes; muscles beside them.
    fn spine(&self, p: Point) -> Option<f64> {
        let [z, y, x] = p;
        let along = (2.4 * z + self.vertebra_phase).rem_euclid(1.0);
        let disc = along < 0.2;
        let body = (x / 0.16).hypot((y - 0.36) / 0.125);
        if body < 1.0 {
            let cortex = body > 0.84 || !(0.26..0.94).contains(&along);
            return Some(match (disc, cortex) {
                (true, _) => 75.0,
                (false, true) => 480.0,
                (false, false) => 210.0,
            });
        }
        let canal = (x / 0.075).hypot((y - 0.535) / 0.06);
        if canal < 1.0 {
            return Some(25.0);
        }
        let arch = canal < 1.5 && !(0.35..0.5).contains(&along);
        let process = x.abs() < 0.022 && (0.58..0.72).contains(&y) && along > 0.45;
        if arch || process {
            return Some(430.0);
        }
        let beside =
            |centre: f64, y0: f64, rx: f64, ry: f64| ((x.abs() - centre) / rx).hypot((y - y0) / ry) < 1.0;
        let psoas = z < 0.15 && beside(0.21, 0.37, 0.075 - 0.06 * z.min(0.0), 0.10);
        let erector = beside(0.20, 0.545, 0.17, 0.085) || (x.abs() < 0.2 && (0.5..0.6).contains(&y));
        (psoas || erector).then_some(58.0)
    }
}

/// How far out a point lies in the body: 0 on the axis, 1 on the skin.
fn wall_reach([z, y, x]: Point) -> f64 {
    let waist = 1.0 - 0.05 * (0.5 - z).max(0.0).powi(2);
    ((x / (0.91 * waist)).abs().powf(2.3) + ((y - 0.02) / (0.69 * waist)).abs().powf(2.3)).powf(1.0 / 2.3)
}

/// Aorta, inferior vena cava and portal vein.
fn vessels([z, y, x]: Point, contrast: f64) -> Option<f64> {
    let sway = 0.02 * (2.0 * z).sin();
    if (x - 0.07 - sway).hypot(y - 0.19) < 0.058 {
        return Some(175.0 + contrast);
    }
    ((x + 0.10 - sway).hypot((y - 0.18) * 1.25) < 0.062).then_some(135.0 + contrast)
}

/// Somewhere in the right lobe.
fn draw_lesion(draws: &mut Draws, lobe: &Blob) -> Blob {
    let direction = [0; 3].map(|_| draws.normal());
    let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt().max(1e-6);
    let reach = draws.between(0.1, 0.55);
    let centre =
        std::array::from_fn(|axis| lobe.centre[axis] + lobe.radius[axis] * reach * direction[axis] / length);
    let radius = draws.between(0.10, 0.17);
    Blob::draw(draws, centre, [radius; 3])
}

fn draw_bowel(draws: &mut Draws, index: usize) -> (Blob, bool) {
    let centre = [draws.between(-0.95, -0.30), draws.between(-0.38, 0.05), -0.5 + 0.125 * index as f64];
    let radius = [0; 3].map(|_| draws.between(0.10, 0.17));
    (Blob::draw(draws, centre, radius), draws.between(0.0, 1.0) < 0.4)
}
