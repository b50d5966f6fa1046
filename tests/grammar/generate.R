# R's own reading of formulas, as tables. Run from the repository: Rscript tests/grammar/generate.R

here <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
setwd(dirname(here))
invisible(Sys.setlocale("LC_COLLATE", "C")) # text is sorted by code points
options(contrasts = c("contr.treatment", "contr.poly"), warn = 1, digits = 7, scipen = 0)
suppressPackageStartupMessages({
  library(splines)
  library(lme4)
})
for (file in c("write.R", "data.R", "expressions.R", "values.R", "precedence.R", "matrices.R", "models.R"))
  source(file)

sets <- write_data()
what <- commandArgs(trailingOnly = TRUE) # nothing, or some of the four tables
if (length(what) == 0) what <- c("expressions", "precedence", "matrices", "models")
if ("expressions" %in% what) write_expressions(sets)
if ("precedence" %in% what) write_precedence()
if ("matrices" %in% what) write_matrices(sets$data.csv)
if ("models" %in% what) write_models(sets)
