# Fits one problem with lme4 and writes one JSON line; called by engines.py as
#   Rscript lme4.R DATA.csv FACTORS FORMULA REML REPEATS
# Reading the data is not timed; the timed call is the whole lmer(), formula included.
args <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(lme4))
frame <- read.csv(args[1], stringsAsFactors = FALSE)
for (name in strsplit(args[2], ",")[[1]]) frame[[name]] <- factor(frame[[name]], levels = unique(frame[[name]]))
formula <- as.formula(args[3])
reml <- args[4] == "1"
seconds <- c()
repeats <- as.integer(args[5])
while (length(seconds) < repeats) {
  gc()
  seconds <- c(seconds, system.time(
    fit <- suppressMessages(suppressWarnings(lmer(formula, frame, REML = reml))))[["elapsed"]])
  if (sum(seconds) > 20) break
}
cat(sprintf(
  '{"objective": %.10f, "seconds": %.6f, "evals": %d, "calls": %d, "version": "lme4 %s, R %s.%s, BLAS %s"}\n',
  -2 * as.numeric(logLik(fit)), median(seconds), as.integer(fit@optinfo$feval), length(seconds),
  packageVersion("lme4"), R.version$major, R.version$minor, basename(dirname(extSoftVersion()[["BLAS"]]))))
