//! The planners of nnU-Net v2.8.1 and their constants.

/// Planner presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planner {
    /// `ExperimentPlanner`, 8 GB.
    Default,
    /// `nnUNetPlannerResEncM`, 8 GB.
    ResEncM,
    /// `nnUNetPlannerResEncL`, 24 GB.
    ResEncL,
    /// `nnUNetPlannerResEncXL`, 40 GB.
    ResEncXL,
}

/// Constants of a preset.
pub(super) struct Preset {
    pub(super) class_name: &'static str,
    pub(super) plans_name: &'static str,
    pub(super) reference: [f64; 2],
    pub(super) gigabytes: f64,
    pub(super) cover: f64,
    pub(super) residual: bool,
}

impl Planner {
    pub(super) fn preset(self) -> Preset {
        let residual = |class_name, plans_name, reference, gigabytes| Preset {
            class_name,
            plans_name,
            reference,
            gigabytes,
            cover: 1.0,
            residual: true,
        };
        match self {
            Self::Default => Preset {
                class_name: "ExperimentPlanner",
                plans_name: "nnUNetPlans",
                reference: [85e6, 560e6],
                gigabytes: 8.0,
                cover: 0.05,
                residual: false,
            },
            Self::ResEncM => residual("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", [135e6, 680e6], 8.0),
            Self::ResEncL => {
                residual("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", [380e6, 2100e6], 24.0)
            }
            Self::ResEncXL => {
                residual("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", [560e6, 3600e6], 40.0)
            }
        }
    }

    /// Name of its plans.
    pub fn plans_name(self) -> &'static str {
        self.preset().plans_name
    }
}
